"""Tells the watches and the waiting readers of this process what was committed, by whomever."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self

from ...errors import Outcome, Unavailable
from ...ports.store import Batch, Change

__all__ = ["MAX_BUFFERED_CHANGES", "Hub", "SqliteWatch"]

MAX_BUFFERED_CHANGES = 4096
"""How many changes a watch holds for a slow reader before it forgets them for a new snapshot."""

Commits = Iterable[tuple[int, tuple[Change, ...]]]


class _Source(Protocol):
    async def follow(self, prefix: str) -> None:
        """Return when all that is committed under `prefix` from now on will be published here."""
        ...

    def snapshot(self, prefix: str) -> Batch:
        """Return all entries under `prefix` and the revision that they are of."""
        ...


class Hub:
    """Belongs to the loop's thread."""

    def __init__(self) -> None:
        self.watches: dict[SqliteWatch, None] = {}
        self._waiting: dict[tuple[str, int], set[asyncio.Future[None]]] = {}
        self.closed: bool = False

    def publish(self, commits: Commits) -> None:
        """Tell the watches of commits, in their order."""
        for revision, changes in commits:
            for watch in self.watches:
                watch.offer(revision, changes)

    def appended(self, ends: Mapping[tuple[str, int], int]) -> None:
        """Wake those who wait for records in these partitions."""
        if self._waiting:
            for place in ends:
                for future in self._waiting.pop(place, ()):
                    _wake(future)

    def resync(self) -> None:
        """Something may have been missed: watches begin with a snapshot again, readers look again."""
        for watch in self.watches:
            watch.lose_track()
        self.look_again()

    def look_again(self) -> None:
        """Let those who wait for records look at the file: some may have come untold."""
        for futures in self._waiting.values():
            for future in futures:
                _wake(future)
        self._waiting.clear()

    def waiter(self, topic: str, partition: int) -> asyncio.Future[None]:
        """Return a future that is done when the partition may have more records."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((topic, partition), set()).add(future)
        future.add_done_callback(lambda done: self._forget(topic, partition, done))
        return future

    def _forget(self, topic: str, partition: int, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.get((topic, partition))
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[topic, partition]

    def prefixes(self) -> tuple[str, ...]:
        """Return what the watches follow."""
        return tuple(sorted({watch.prefix for watch in self.watches}))

    def close(self) -> None:
        """End everything that waits: the store is closed."""
        self.closed = True
        self.resync()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class SqliteWatch:
    """One follower of a prefix; see `ports.store.Watch`."""

    def __init__(self, hub: Hub, source: _Source, prefix: str, check: Callable[[], None]) -> None:
        self.prefix = prefix
        self._hub = hub
        self._source = source
        self._check = check
        self._buffer: deque[Batch] = deque()
        self._buffered = 0
        self._lost = True
        self._closed = False
        self._seen = 0
        """The revision of the last snapshot. News of what is in it may come after it."""
        self._following: asyncio.Future[None] | None = None
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
        if self._following is not None:
            self._following.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while not self._closed:
            self._check()
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
        """Return a snapshot, or None when track was lost again meanwhile."""
        self._hub.watches[self] = None
        self._lost = False
        following = self._following = asyncio.ensure_future(self._source.follow(self.prefix))
        try:
            await asyncio.wait([following])
            if self._lost:
                return None
            following.result()
            snapshot = self._source.snapshot(self.prefix)
        except BaseException:
            self.lose_track()  # Cancelled, or the file cannot be read: whoever asks again begins anew.
            raise
        finally:
            following.cancel()
            self._following = None
        self._seen = snapshot.revision
        while self._buffer and self._buffer[0].revision <= snapshot.revision:
            self._buffered -= len(self._buffer.popleft().changes)
        return snapshot

    async def aclose(self) -> None:
        self._closed = True
        self._hub.watches.pop(self, None)
        self.lose_track()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


def closed_error(what: str) -> Unavailable:
    """Return the error of whoever uses a store or log that was closed."""
    return Unavailable(f"the {what} is closed", outcome=Outcome.NOT_APPLIED)
