"""Watches over one request: the time it may take, and whether its client is still there."""

from __future__ import annotations

import asyncio
import enum
from types import TracebackType
from typing import Self

from ..errors import DeadlineExceeded, Unavailable
from .problems import HttpError
from .request import Disconnected, Receive

__all__ = ["Guard"]

_PATIENCE_S = 0.05
_MARGIN_S = 1.0


class _Why(enum.Enum):
    SLOW_BODY = enum.auto()
    DEADLINE = enum.auto()
    DISCONNECTED = enum.auto()
    CLOSING = enum.auto()


class Guard:
    """A context in which the running task is cancelled for a reason, and ends with the error for it.

    Most requests are over within a blink and cost one timer that never fires. The others get, after
    50 ms, a time limit for the body, and then a task that waits for the client to disconnect.
    """

    __slots__ = (
        "_body_timeout_s",
        "_cancelling",
        "_looked",
        "_receive",
        "_task",
        "_timeout_s",
        "_timer",
        "_watcher",
        "_why",
    )

    def __init__(self, receive: Receive, *, body_timeout_s: float) -> None:
        self._receive = receive
        self._body_timeout_s = body_timeout_s
        self._timeout_s: float | None = None
        self._looked = False
        self._why: _Why | None = None
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a guard needs a task that it can cancel")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = task.get_loop().call_later(_PATIENCE_S, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.answered()
        # As in asyncio.timeout: the cancellation is ours unless somebody else asked for one as well.
        if self._why is None or self._task.uncancel() > self._cancelling:
            return
        if kind is asyncio.CancelledError:
            raise self._error() from error

    def called(self, timeout_s: float, *, patient: bool = True) -> None:
        """Note that the body has been read and that the call has `timeout_s` from now.

        A backend keeps deadlines itself; the guard steps in a second later, should it not. Without
        patience, the client is watched from now on.
        """
        self._timeout_s = timeout_s
        if self._looked or not patient:
            self._timer.cancel()
            self._watch()

    def answered(self) -> None:
        """Note that the call is over: what remains is to send its result, however slowly it is read."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def close(self) -> None:
        """Cancel the request because the server closes."""
        self._cancel(_Why.CLOSING)

    def _look(self) -> None:
        if self._timeout_s is not None:
            self._watch()
            return
        self._looked = True
        remaining = self._body_timeout_s - _PATIENCE_S
        self._timer = self._task.get_loop().call_later(remaining, self._cancel, _Why.SLOW_BODY)

    def _watch(self) -> None:
        loop = self._task.get_loop()
        self._timer = loop.call_later((self._timeout_s or 0) + _MARGIN_S, self._cancel, _Why.DEADLINE)
        self._watcher = loop.create_task(self._wait_disconnected())

    async def _wait_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel(_Why.DISCONNECTED)

    def _cancel(self, why: _Why) -> None:
        if self._why is None:
            self._why = why
            self._task.cancel()

    def _error(self) -> Exception:
        match self._why:
            case _Why.SLOW_BODY:
                return HttpError(
                    408,
                    f"the body did not arrive within {self._body_timeout_s:g} s",
                    headers=[(b"connection", b"close")],
                )
            case _Why.DEADLINE:
                return DeadlineExceeded(f"the call took longer than {self._timeout_s:g} s")
            case _Why.CLOSING:
                return Unavailable("the node is shutting down", hint="ask another node")
            case _:
                return Disconnected()
