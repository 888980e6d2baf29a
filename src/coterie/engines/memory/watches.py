"""The watches of a memory store: bounded buffers that fall back to a new snapshot."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ...ports.store import Batch

if TYPE_CHECKING:
    from .store import MemoryStore

__all__ = ["MAX_BUFFERED_CHANGES", "MemoryWatch"]

MAX_BUFFERED_CHANGES = 1024
"""How many changes a watch holds for a slow reader before it forgets them for a new snapshot."""


class MemoryWatch:
    """One follower of a prefix. It is known to the store from the first `__anext__` to `aclose`."""

    __slots__ = ("_buffer", "_buffered", "_closed", "_needs_snapshot", "_news", "_store", "prefix")

    def __init__(self, store: MemoryStore, prefix: str) -> None:
        self.prefix: str = prefix
        self._store = store
        self._buffer: deque[Batch] = deque()
        self._buffered = 0
        self._needs_snapshot = True
        self._closed = False
        self._news = asyncio.Event()

    def offer(self, batch: Batch) -> None:
        """Take the changes of one commit under the prefix."""
        if not self._needs_snapshot:
            self._buffer.append(batch)
            self._buffered += len(batch.changes)
            if self._buffered > MAX_BUFFERED_CHANGES:
                self._needs_snapshot = True
                self._forget()
        self._news.set()

    def wake(self) -> None:
        """Let a waiting `__anext__` look again: the store has closed."""
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while not self._closed:
            self._store.refresh()
            if self._needs_snapshot:
                self._store.follow(self)
                self._needs_snapshot = False
                return self._store.snapshot(self.prefix)
            if self._buffer:
                batch = self._buffer.popleft()
                self._buffered -= len(batch.changes)
                return batch
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._closed = True
        self._store.unfollow(self)
        self._forget()
        self._news.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _forget(self) -> None:
        self._buffer.clear()
        self._buffered = 0
