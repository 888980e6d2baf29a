"""Runs a coroutine up to its first await at once, and makes a task of it only if it has one.

Most handlers never wait. A task for each would cost as much as the call itself. Python 3.12 has eager
tasks for that. On 3.11 the first step is run by hand in the name of a spare task that stands ready, so
that `asyncio.current_task()`, `asyncio.timeout()` and task groups work in it; if the coroutine waits,
the spare task takes it over, and otherwise it stands ready for the next one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, NoReturn, TypeVar

__all__ = ["Steps"]

T = TypeVar("T")

_EAGER = sys.version_info >= (3, 12)
_EAGERLY: dict[str, Any] = {"eager_start": True}
# How asyncio says that tasks other than its own are to make themselves known.
_enter_task = asyncio.tasks._enter_task  # noqa: SLF001 - documented in "Extending asyncio"
_leave_task = asyncio.tasks._leave_task  # noqa: SLF001


class Steps:
    """Starts coroutines on one loop, each in a copy of the present context."""

    __slots__ = ("_loop", "_spare", "start")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: _Spare | None = None
        self.start: Callable[[Coroutine[Any, Any, T]], T | asyncio.Task[T]] = (
            self.start_eagerly if _EAGER else self.start_by_hand
        )
        """Run a coroutine to its first await. Return its result, or its task if it waits.

        What the coroutine raises in its first step is raised here.
        """

    def start_eagerly(self, work: Coroutine[Any, Any, T]) -> T | asyncio.Task[T]:
        """`start` by means of Python 3.12."""
        task: asyncio.Task[T] = asyncio.Task(work, loop=self._loop, **_EAGERLY)
        return task.result() if task.done() else task

    def start_by_hand(self, work: Coroutine[Any, Any, T]) -> T | asyncio.Task[T]:
        """`start` by means of Python 3.11."""
        loop = self._loop
        spare, self._spare = self._spare, None  # Not there for a coroutine that `work` starts.
        if spare is None:
            spare = _Spare(loop)
        task = spare.task
        outer = None
        try:
            _enter_task(loop, task)
        except RuntimeError:  # Within a task, which is rare: transports call from outside of any.
            outer = asyncio.current_task(loop)
            assert outer is not None  # noqa: S101 - that is what the error says
            _leave_task(loop, outer)
            _enter_task(loop, task)
        context = copy_context()
        try:
            awaited = context.run(work.send, None)
        except StopIteration as done:
            if task.cancelling():  # It has cancelled its own task, which must not reach the next one.
                raise asyncio.CancelledError from None
            self._spare = spare
            result: T = done.value
            return result
        except BaseException:
            if not task.cancelling():
                self._spare = spare
            raise
        finally:
            _leave_task(loop, task)
            if outer is not None:
                _enter_task(loop, outer)
        spare.take_over(work, context, awaited)
        return task

    async def close(self) -> None:
        """Let go of the spare task."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.task.cancel()
            await asyncio.wait([spare.task])


class _Spare(Coroutine[Any, Any, Any]):
    """The coroutine of a task that waits to take over another, which has had its first step.

    Not written as `async def`, because a task that is cancelled before its own first step throws into
    its coroutine, and what was taken over must see that.
    """

    __slots__ = ("_awaited", "_blocking", "_context", "_loop", "_wake", "_work", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._work: Coroutine[Any, Any, Any] | None = None
        self._context: Context | None = None
        self._awaited: Any = None
        self._blocking = False
        """Whether `_awaited` is a future that the task has yet to wait for."""
        self._wake: asyncio.Future[None] | None = None
        self.task: asyncio.Task[Any] = loop.create_task(self)

    def take_over(self, work: Coroutine[Any, Any, Any], context: Context, awaited: Any) -> None:
        """Go on with `work`, which waits for `awaited` after its first step."""
        self._work = work
        self._context = context
        self._awaited = awaited
        if getattr(awaited, "_asyncio_future_blocking", None):
            # The mark that a future is yielded by its own await. It is taken off until the future is
            # yielded to the task, since another coroutine may await the same future before that.
            self._blocking = True
            awaited._asyncio_future_blocking = False  # noqa: SLF001 - as every task does
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def send(self, value: Any) -> Any:
        if self._work is None:
            self._wake = self._loop.create_future()
            return self._wait_for(self._wake)
        if self._blocking:
            self._blocking = False
            return self._wait_for(self._awaited)
        if self._awaited is not None:  # Whatever it is, the task knows what to say about it.
            awaited, self._awaited = self._awaited, None
            return awaited
        assert self._context is not None  # noqa: S101 - comes with the work
        return self._context.run(self._work.send, value)

    def throw(self, error: Any, value: Any = None, trace: Any = None, /) -> Any:
        if self._work is None:
            _raise(error, value)
        if self._blocking:
            self._blocking = False
            # As a task does: it cancels what it waits for, which may be another task, and not itself.
            if _is_cancellation(error) and self._awaited.cancel():
                return self._wait_for(self._awaited)
        self._awaited = None
        assert self._context is not None  # noqa: S101 - comes with the work
        if value is None and trace is None:
            return self._context.run(self._work.throw, error)
        return self._context.run(self._work.throw, error, value, trace)

    def close(self) -> None:
        if self._work is not None:
            self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("a spare is driven by its task only")

    def _wait_for(self, future: Any) -> Any:
        self._awaited = None
        future._asyncio_future_blocking = True  # noqa: SLF001 - as its await does
        return future


def _is_cancellation(error: Any) -> bool:
    return error is asyncio.CancelledError or isinstance(error, asyncio.CancelledError)


def _raise(error: Any, value: Any) -> NoReturn:
    raise error if value is None else value
