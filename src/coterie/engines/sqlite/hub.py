"""Tells the watches and the waiting readers of this process what was committed, by whomever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from ...errors import Outcome, Unavailable
from ...ports.store import Change
from ..common.feed import Feed

__all__ = ["Hub", "closed_error"]

Commits = Iterable[tuple[int, tuple[Change, ...]]]


class Hub:
    """Belongs to the loop's thread."""

    def __init__(self) -> None:
        self.feed: Feed | None = None
        """The store's watches, from when there is a store."""
        self._waiting: dict[tuple[str, int], set[asyncio.Future[None]]] = {}
        self.closed: bool = False

    @property
    def watched(self) -> bool:
        """Whether any watch wants to be told."""
        return self.feed is not None and bool(self.feed.watches)

    def publish(self, commits: Commits) -> None:
        """Tell the watches of commits, in their order."""
        if self.feed is not None:
            for revision, changes in commits:
                self.feed.publish(revision, changes)

    def appended(self, ends: Mapping[tuple[str, int], int]) -> None:
        """Wake those who wait for records in these partitions."""
        if self._waiting:
            for place in ends:
                for future in self._waiting.pop(place, ()):
                    _wake(future)

    def resync(self) -> None:
        """Something may have been missed: watches begin with a snapshot again, readers look again."""
        if self.feed is not None:
            self.feed.lose_track()
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
        return tuple(sorted({watch.prefix for watch in self.feed.watches})) if self.feed is not None else ()

    def close(self) -> None:
        """End everything that waits: the store is closed."""
        self.closed = True
        self.resync()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def closed_error(what: str) -> Unavailable:
    """Return the error of whoever uses a store or log that was closed."""
    return Unavailable(f"the {what} is closed", outcome=Outcome.NOT_APPLIED)
