"""Two attempts of one call beside each other (Dean and Barroso, "The Tail at Scale", 2013)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["race"]

T = TypeVar("T")


async def race(
    first: Coroutine[Any, Any, T],
    second: Callable[[], Coroutine[Any, Any, T] | None],
    after_s: float,
    *,
    is_answer: Callable[[BaseException | None], bool],
) -> T:
    """Return what `first` returns, or what `second` gives, which is asked after `after_s`.

    The first end of which `is_answer` is true decides, where None stands for a result; whoever is left is
    cancelled. When none is, the error of the one that ended last is raised.
    """
    running = {asyncio.ensure_future(first)}
    try:
        done, _ = await asyncio.wait(running, timeout=after_s)
        if not done and (beside := second()) is not None:
            running.add(asyncio.ensure_future(beside))
        while True:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            decided = next((task for task in done if is_answer(_error(task))), None)
            if decided is not None or not running:
                return (decided or done.pop()).result()
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()
