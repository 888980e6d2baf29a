"""A request or stream of the memory wire: what its two ends share."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from ...errors import CoterieError, DeadlineExceeded, Outcome, Unavailable
from ...ports.wire import Failure

if TYPE_CHECKING:
    from .wire import MemoryListener

__all__ = ["STREAM_WINDOW", "MemoryCall"]

STREAM_WINDOW = 16
"""How many items of a stream are under way before its sender waits for the reader."""


class MemoryCall:
    """One call under way. A request is a stream of one item.

    Items wait in a bounded buffer. What ends the call first settles how it ends.
    """

    __slots__ = ("_ended", "_error", "_items", "_news", "_room", "listener", "started", "task")

    def __init__(self, listener: MemoryListener) -> None:
        self.listener: MemoryListener = listener
        self.task: asyncio.Task[None] | None = None
        self.started: bool = False
        """Whether a handler has seen the call: before that, losing it certainly has no effect."""
        self._items: deque[bytes] = deque()
        self._ended = False
        self._error: Failure | CoterieError | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def send(self, item: bytes) -> None:
        """Hand `item` to the reader, once there is room for it."""
        while len(self._items) >= STREAM_WINDOW:
            self._room.clear()
            await self._room.wait()
        self._items.append(item)
        self._news.set()

    async def receive(self) -> bytes | None:
        """Return the next item, or None when there are no more; raise the error that the call ended with."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._items.popleft()

    def end(self, error: Failure | None = None) -> None:
        """End the call after the items that were sent before."""
        if not self._ended:
            self._ended, self._error = True, error
            self._news.set()

    def lose(self, why: str) -> None:
        """End the call at once because the connection is lost."""
        self._abort(Unavailable(why, outcome=self._outcome()))

    def expire(self) -> None:
        """End the call at once because its time is over."""
        self._abort(DeadlineExceeded("the call took longer than its time", outcome=self._outcome()))

    def leave(self) -> None:
        """Stop the handler, if it still runs: nobody reads what it says."""
        if self.task is not None:
            self.task.cancel()

    def _outcome(self) -> Outcome:
        return Outcome.UNKNOWN if self.started else Outcome.NOT_APPLIED

    def _abort(self, error: CoterieError) -> None:
        if not self._ended or self._items:
            self._items.clear()
            self._ended, self._error = True, error
            self._news.set()
        self.leave()
