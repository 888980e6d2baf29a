"""Tells the watches and the waiting readers of this process what others did, by asking now and then.

What this process does it knows at once. The work of others shows when the database is asked, every
`poll_s` while somebody waits and less often otherwise. No connection has a state that a pooler would lose.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from ...errors import CorruptData, CoterieError, NotFound
from .config import PostgresConfig
from .link import Link

__all__ = ["News", "Place"]

Place = tuple[str, int]

_POLL = """
SELECT revision, CASE WHEN isfinite(expires)
  THEN extract(epoch FROM expires - clock_timestamp())::double precision END AS due_s FROM @.meta
"""
_ENDS = """
SELECT t.id, b.first, b.next FROM unnest($1::text[], $2::int[]) WITH ORDINALITY AS w (name, partition, place)
LEFT JOIN @.topics t ON t.name = w.name
LEFT JOIN @.bounds b ON b.topic = t.id AND b.partition = w.partition ORDER BY w.place
"""
_IDLE_S = 0.5
_log = logging.getLogger("coterie.postgres")


class _Reader:
    """Who waits for a record at or beyond `offset`."""

    __slots__ = ("future", "offset", "topic")

    def __init__(self, topic: int, offset: int, future: asyncio.Future[None]) -> None:
        self.topic = topic
        self.offset = offset
        self.future = future


class News:
    """Belongs to one engine. `expire` is called when a lease may have ended."""

    def __init__(self, link: Link, config: PostgresConfig, expire: Callable[[], None]) -> None:
        self._link = link
        self._config = config
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._poll = _POLL.replace("@", config.schema)
        self._ends = _ENDS.replace("@", config.schema)
        self.revision: int = 0
        """The newest revision that this process heard of."""
        self._watchers: set[asyncio.Future[None]] = set()
        self._readers: dict[Place, list[_Reader]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._task = self._loop.create_task(self._run(), name="coterie-postgres-news")

    def saw(self, revision: int) -> None:
        """Take note that the store is at `revision`, at least."""
        if revision > self.revision:
            self.revision = revision
            watchers, self._watchers = self._watchers, set()
            for future in watchers:
                _wake(future)

    def appended(self) -> None:
        """Take note that there are new records, somewhere."""
        if self._readers:
            self._wake.set()

    def look(self) -> None:
        """Ask soon: a lease was granted that ends before what is known."""
        self._wake.set()

    async def wait_revision(self, after: int) -> None:
        """Return when the store is beyond the revision `after`."""
        if self.revision > after:
            return
        if not self._watchers:
            self._wake.set()
        future: asyncio.Future[None] = self._loop.create_future()
        self._watchers.add(future)
        try:
            await future
        finally:
            self._watchers.discard(future)

    async def wait_record(self, place: Place, topic: int, offset: int) -> None:
        """Return when `place`, whose topic has the id `topic`, has a record at or beyond `offset`."""
        reader = _Reader(topic, offset, self._loop.create_future())
        self._readers.setdefault(place, []).append(reader)
        self._wake.set()
        try:
            await reader.future
        finally:
            readers = self._readers.get(place, [])
            if reader in readers:
                readers.remove(reader)
            if not readers:
                self._readers.pop(place, None)

    def wake_all(self) -> None:
        """Let everybody who waits look again: something was closed."""
        for future in (*self._watchers, *(r.future for readers in self._readers.values() for r in readers)):
            _wake(future)

    async def close(self) -> None:
        """Stop asking."""
        self.wake_all()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                due_s = await self._ask()
            except CoterieError as error:
                _log.warning("no news: %s", error)
                due_s = None
            if due_s is not None and due_s <= 0:
                with suppress(CoterieError):  # Closed, or overloaded: the next look finds it again.
                    self._expire()
            pause_s = self._config.poll_s if self._watchers or self._readers else _IDLE_S
            if due_s is not None:
                pause_s = min(pause_s, max(due_s, 0.005))
            timer = self._loop.call_later(pause_s, self._wake.set)
            await self._wake.wait()
            timer.cancel()
            self._wake.clear()

    async def _ask(self) -> float | None:
        """Look once; return in how many seconds the first lease ends."""
        deadline = self._loop.time() + self._config.operation_timeout_s
        found = await self._link.ask(self._poll, deadline=deadline)
        if not found:
            raise CorruptData(f"the table meta of the schema {self._config.schema!r} is empty")
        [row] = found
        self.saw(row["revision"])
        places = list(self._readers)
        if places:
            names, partitions = zip(*places, strict=True)
            rows = await self._link.ask(self._ends, names, partitions, deadline=deadline)
            for place, (topic, first, following) in zip(places, rows, strict=True):
                for reader in self._readers.get(place, ()):
                    _tell(reader, place, topic, first, following)
        due_s: float | None = row["due_s"]
        return due_s


def _tell(reader: _Reader, place: Place, topic: int | None, first: int, following: int) -> None:
    if reader.future.done():
        return
    if topic != reader.topic:
        reader.future.set_exception(NotFound(f"the topic {place[0]!r} was deleted"))
    elif following > max(reader.offset, first):
        reader.future.set_result(None)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
