"""Runs a coroutine up to its first await at once, and makes a task of it only if it has one.

Most handlers never wait. A task for each would cost as much as the call itself. Python 3.12 has eager
tasks for that. On 3.11 the first step is run by hand under a spare task that stands ready, so that
`asyncio.current_task()`, `asyncio.timeout()` and task groups work in it; if the coroutine waits, the
spare task takes it over, and otherwise it stands ready for the next one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Any

__all__ = ["Steps"]

_EAGER = sys.version_info >= (3, 12)
_EAGERLY: dict[str, Any] = {"eager_start": True}


class Steps:
    """Starts coroutines on one loop. They must handle their own errors: one that escapes is logged."""

    __slots__ = ("_loop", "_spare")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: _Spare | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run `work`, in a context of its own, to its first await; return its task if it is not done."""
        if _EAGER:
            task: asyncio.Task[None] = asyncio.Task(work, loop=self._loop, **_EAGERLY)
            return None if task.done() and not task.cancelled() and task.exception() is None else task
        spare = self._spare
        if spare is None or spare.task.done():
            spare = self._spare = _Spare(self._loop)
        context = copy_context()
        task = spare.task
        asyncio.tasks._enter_task(self._loop, task)  # noqa: SLF001 - see "Extending" in asyncio's docs
        try:
            waits_for = context.run(work.send, None)
        except StopIteration:
            return None
        except BaseException as error:
            self._loop.call_exception_handler({"message": "a handler raised", "exception": error})
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return None
        finally:
            asyncio.tasks._leave_task(self._loop, task)  # noqa: SLF001
        self._spare = None
        spare.take_over(work, context, waits_for)
        return task

    def close(self) -> None:
        """Let go of the spare task."""
        if self._spare is not None:
            self._spare.task.cancel()
            self._spare = None


class _Spare:
    """A task that waits to take over a coroutine which was started already."""

    __slots__ = ("_context", "_started", "_waits_for", "_wake", "_work", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._wake = loop.create_future()
        self._work: Coroutine[Any, Any, None] | None = None
        self._context: Context | None = None
        self._waits_for: Any = None
        self._started = False
        self.task = loop.create_task(self._run())

    def take_over(self, work: Coroutine[Any, Any, None], context: Context, waits_for: Any) -> None:
        self._work, self._context, self._waits_for = work, context, waits_for
        self.task.add_done_callback(self._unless_started)
        if not self._wake.done():
            self._wake.set_result(None)

    def _unless_started(self, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before its own first step never runs; what it took over still must.
        if not self._started and self._work is not None and self._context is not None:
            cancelled = asyncio.CancelledError()
            rest = _rest(self._work, self._context, self._waits_for, cancelled)
            task.get_loop().create_task(_awaited(rest))

    async def _run(self) -> None:
        self._started = True
        error: BaseException | None = None
        try:
            await self._wake
        except asyncio.CancelledError as cancelled:
            if self._work is None:
                return  # Never needed.
            error = cancelled  # It was cancelled between its first step and here.
        assert self._work is not None  # noqa: S101 - whoever wakes it has set it
        assert self._context is not None  # noqa: S101
        await _rest(self._work, self._context, self._waits_for, error)


async def _awaited(rest: Any) -> None:
    await rest


@coroutine
def _rest(
    work: Coroutine[Any, Any, None], context: Context, waits_for: Any, thrown: BaseException | None
) -> Generator[Any, Any, None]:
    sent: Any = None
    if thrown is not None:
        # The future that it waits for will never be looked at by this task: hand it back as not awaited.
        if getattr(waits_for, "_asyncio_future_blocking", None):
            waits_for._asyncio_future_blocking = False  # noqa: SLF001 - as a task does
        try:
            waits_for = context.run(work.throw, thrown)
        except StopIteration:
            return
    while True:
        thrown = None
        try:
            sent = yield waits_for
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to `work`
            thrown = error
        try:
            step, value = (work.send, sent) if thrown is None else (work.throw, thrown)
            waits_for = context.run(step, value)
        except StopIteration:
            return
