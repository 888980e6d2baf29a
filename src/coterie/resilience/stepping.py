"""Awaits work that must end by a time, without a timer if it does not suspend."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

__all__ = ["resume", "resume_until"]

T = TypeVar("T")


async def resume_until(work: Coroutine[Any, Any, T], awaited: Any, until: float) -> T:
    """Go on with `work`, which has been stepped to its first await, but not beyond `until`.

    `awaited` is what that step yielded, `until` a time of the loop's clock. Raises `TimeoutError` from
    within `asyncio.timeout` when the time is over; the work is cancelled then.
    """
    async with asyncio.timeout_at(until):
        return await resume(work, awaited)


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
