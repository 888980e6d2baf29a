"""Two attempts of one call beside each other (Dean and Barroso, "The Tail at Scale", 2013)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from .latency import Quantiles
from .policy import Hedge

__all__ = ["HedgeDelay", "call_off", "first_done", "race"]

T = TypeVar("T")

_WORKED_OUT_S = 0.1
"""How long it holds what is usual."""


class HedgeDelay:
    """Learns what calls usually take, and so after how long an attempt gets company. Pure."""

    __slots__ = ("_hedge", "_latency", "_usual_s", "_usual_until")

    def __init__(self, hedge: Hedge) -> None:
        self._hedge = hedge
        self._latency = Quantiles()
        self._usual_s = 0.0
        self._usual_until = 0.0

    def add(self, now: float, took_s: float) -> None:
        """Take in a call that was answered at `now` after `took_s`."""
        self._latency.add(now, took_s)

    def after_s(self, now: float) -> float | None:
        """Return after how long an attempt gets company, or None as long as nobody knows what is usual."""
        hedge, latency = self._hedge, self._latency
        if latency.count < hedge.min_calls:
            return None
        if now >= self._usual_until:
            self._usual_s = max(latency.at(hedge.quantile) or 0.0, hedge.least_s)
            self._usual_until = now + _WORKED_OUT_S
        return self._usual_s


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
    running = [asyncio.ensure_future(first)]
    try:
        early, _ = await asyncio.wait(running, timeout=after_s)
        if not early and (beside := second()) is not None:
            running.append(asyncio.ensure_future(beside))
        while True:
            done, running = await first_done(running)
            decided = [task for task in done if is_answer(_error(task))]
            if decided or not running:
                return (decided or done)[0].result()
    finally:
        await call_off(running)


async def first_done(tasks: list[asyncio.Task[T]]) -> tuple[list[asyncio.Task[T]], list[asyncio.Task[T]]]:
    """Wait until one of `tasks` has ended; return those that have and those that run, in their order.

    The sets that `asyncio.wait` returns are in an order that no seed repeats.
    """
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return [task for task in tasks if task.done()], [task for task in tasks if not task.done()]


async def call_off(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` and wait until they have ended. How they end is of no interest any more."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        _error(task)


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    # Asking is also what keeps the loop from telling of errors that nobody asked for.
    return asyncio.CancelledError() if task.cancelled() else task.exception()
