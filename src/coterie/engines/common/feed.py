"""Watches over an ordered feed of commits: bounded buffers that fall back to a new snapshot.

An engine publishes every commit once, in order, and provides snapshots. A watch registers before it asks for
its snapshot and drops what the snapshot holds already, so that it misses nothing between the two.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self

from ...errors import Unavailable
from ...ports.store import Batch, Change

__all__ = ["MAX_BUFFERED_CHANGES", "Feed", "FeedWatch"]

MAX_BUFFERED_CHANGES = 4096
"""How many changes a watch holds for a slow reader before it forgets them for a new snapshot."""

_RETRY_S = 0.1


class _Source(Protocol):
    def check(self) -> None:
        """Raise `Unavailable` when the store is closed."""
        ...

    async def snapshot(self, prefix: str) -> Batch:
        """Return all entries under `prefix`, no older than what was published before the call."""
        ...


class Feed:
    """The watches of one store. It belongs to the loop's thread."""

    def __init__(self, source: _Source, follow: Callable[[], Awaitable[None]]) -> None:
        self.source = source
        self.follow = follow
        """Returns when every commit after it will be published."""
        self.watches: dict[FeedWatch, None] = {}

    def publish(self, revision: int, changes: tuple[Change, ...]) -> None:
        """Offer a commit to every watch."""
        for watch in self.watches:
            watch.offer(revision, changes)

    def lose_track(self) -> None:
        """Something may have been missed, or the store was closed: watches begin anew."""
        for watch in self.watches:
            watch.lose_track()


class FeedWatch:
    """One follower of a prefix; see `ports.store.Watch`."""

    def __init__(self, feed: Feed, prefix: str) -> None:
        self.prefix: str = prefix
        self._feed = feed
        self._buffer: deque[Batch] = deque()
        self._buffered = 0
        self._lost = True
        self._closed = False
        self._seen = 0
        """The revision of the last snapshot. News of what is in it may come after it."""
        self._beginning: asyncio.Future[Batch] | None = None
        self._news = asyncio.Event()

    def offer(self, revision: int, changes: tuple[Change, ...]) -> None:
        """Take what of a commit is under the prefix."""
        if self._lost or revision <= self._seen:
            return
        mine = tuple(change for change in changes if change.key.startswith(self.prefix))
        if mine:
            self._buffer.append(Batch(revision, mine))
            self._buffered += len(mine)
            if self._buffered > MAX_BUFFERED_CHANGES:
                self.lose_track()
            self._news.set()

    def lose_track(self) -> None:
        """Forget what is buffered: the next batch is a snapshot."""
        self._lost = True
        self._buffer.clear()
        self._buffered = 0
        self._news.set()
        if self._beginning is not None:
            self._beginning.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while not self._closed:
            self._feed.source.check()
            if self._lost:
                snapshot = await self._begin()
                if snapshot is None:
                    continue
                return snapshot
            if self._buffer:
                batch = self._buffer.popleft()
                self._buffered -= len(batch.changes)
                return batch
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    async def _begin(self) -> Batch | None:
        """Return a snapshot, or None when track was lost again, or the engine is out of reach for now."""
        self._feed.watches[self] = None
        self._lost = False
        self._seen = 0
        beginning = self._beginning = asyncio.ensure_future(self._ask())
        try:
            await asyncio.wait([beginning])
            if self._lost:
                return None
            snapshot = beginning.result()
        except Unavailable:
            self.lose_track()
            self._feed.source.check()
            await asyncio.sleep(_RETRY_S)  # a watch outlives an outage
            return None
        except BaseException:
            self.lose_track()  # Cancelled, or refused for good: whoever asks again begins anew.
            raise
        finally:
            beginning.cancel()
            self._beginning = None
        self._seen = snapshot.revision
        while self._buffer and self._buffer[0].revision <= snapshot.revision:
            self._buffered -= len(self._buffer.popleft().changes)
        return snapshot

    async def _ask(self) -> Batch:
        await self._feed.follow()
        return await self._feed.source.snapshot(self.prefix)

    async def aclose(self) -> None:
        self._closed = True
        self._feed.watches.pop(self, None)
        self.lose_track()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()
