"""Awaits work that must end by a time, without a timer if it does not suspend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

__all__ = ["resume", "within"]

T = TypeVar("T")


async def within(work: Coroutine[Any, Any, T], until: float, late: Callable[[], Exception]) -> T:
    """Await `work`, but not beyond `until`, a time of the loop's clock; then it is cancelled.

    Raises `late()` when the time is over. A `TimeoutError` that `work` itself raises is passed on.
    """
    try:
        awaited = work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    scope = asyncio.timeout_at(until)
    try:
        async with scope:
            return await resume(work, awaited)
    except TimeoutError:
        if scope.expired():
            raise late() from None
        raise


@coroutine
def resume(work: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """Go on with `work`, which has been stepped to its first await and yielded `awaited`."""
    while True:
        sent: Any = None
        thrown: BaseException | None = None
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to `work`
            thrown = error
        try:
            awaited = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration as stop:
            result: T = stop.value
            return result
