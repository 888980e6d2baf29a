"""Engines with one safeguard taken away each, which `verify` must find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coterie.engines.memory import open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import Outcome, Unavailable
from coterie.ports import Engine, Log, Store
from coterie.ports.log import Record, Segment
from coterie.ports.store import Commit, Entry, Page
from coterie.verify import System

__all__ = ["BROKEN", "BrokenSystem"]

_EVERY = 9


class Passing:
    """A port that passes everything on. `turn` is true every ninth time."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def turn(self) -> bool:
        self._count += 1
        return self._count % _EVERY == 0


class StaleReads(Passing):
    """Now and then answers what a key was before."""

    def __init__(self, port: Any) -> None:
        super().__init__(port)
        self._before: dict[str, Entry | None] = {}
        self._now: dict[str, Entry | None] = {}

    async def get(self, key: str) -> Entry | None:
        entry: Entry | None = await self._port.get(key)
        if entry != self._now.get(key):
            self._before[key], self._now[key] = self._now.get(key), entry
        return self._before[key] if key in self._before and self.turn() else entry


class StaleScans(Passing):
    """Now and then answers a page as it was before."""

    def __init__(self, port: Any) -> None:
        super().__init__(port)
        self._before: dict[str, Page] = {}

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        page: Page = await self._port.scan(prefix, after=after, limit=limit)
        before = self._before.setdefault(prefix, page)
        return before if self.turn() else page


class DroppedWrites(Passing):
    """Now and then acknowledges what it does not do."""

    async def commit(self, commit: Commit) -> int:
        if self.turn() and not any(put.lease for put in commit.puts):
            return int(await self._port.commit(Commit(checks=commit.checks, fences=commit.fences)))
        return int(await self._port.commit(commit))


class TornCommits(Passing):
    """Writes the keys of a commit one after the other."""

    async def commit(self, commit: Commit) -> int:
        revision = await self._port.commit(Commit(checks=commit.checks, fences=commit.fences))
        for put in commit.puts:
            await SystemClock().sleep(0.002)
            revision = await self._port.commit(Commit(puts=(put,)))
        return int(revision)


class Unchecked(Passing):
    """Writes whatever the versions are."""

    async def commit(self, commit: Commit) -> int:
        return int(await self._port.commit(Commit(commit.puts, commit.deletes, (), commit.fences)))


class Unfenced(Passing):
    """Writes whatever the tokens are."""

    async def commit(self, commit: Commit) -> int:
        return int(await self._port.commit(Commit(commit.puts, commit.deletes, commit.checks, ())))


class FalseOutcomes(Passing):
    """Now and then says that it certainly did not do what it did."""

    async def commit(self, commit: Commit) -> int:
        revision = await self._port.commit(commit)
        if self.turn():
            raise Unavailable("it did not happen, did it?", outcome=Outcome.NOT_APPLIED)
        return int(revision)


class Repeated(Passing):
    """Appends a record twice now and then."""

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        if self.turn():
            await self._port.append(topic, partition, records)
        return int(await self._port.append(topic, partition, records))


class Swallowed(Passing):
    """Acknowledges records now and then that it does not keep."""

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        if self.turn():
            return int((await self._port.bounds(topic, partition)).next + 1_000_000)
        return int(await self._port.append(topic, partition, records))


class Late(Passing):
    """Now and then does not yet know of the records that there are."""

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        segment: Segment = await self._port.read(topic, partition, offset, limit=limit)
        return Segment((), offset) if segment.records and self.turn() else segment


class Blind(Passing):
    """Finds no record, ever."""

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        return Segment((), offset)


class ReadOnly(Passing):
    """Refuses every write after the first second, and answers reads."""

    def __init__(self, port: Any) -> None:
        super().__init__(port)
        self._begun_s = SystemClock().monotonic()

    async def commit(self, commit: Commit) -> int:
        if SystemClock().monotonic() - self._begun_s > 1:
            raise Unavailable("the disk is full", outcome=Outcome.NOT_APPLIED)
        return int(await self._port.commit(commit))


BROKEN: dict[str, tuple[type[Passing], str]] = {
    "stale-reads": (StaleReads, "store"),
    "stale-scans": (StaleScans, "store"),
    "dropped-writes": (DroppedWrites, "store"),
    "torn-commits": (TornCommits, "store"),
    "unchecked": (Unchecked, "store"),
    "unfenced": (Unfenced, "store"),
    "false-outcomes": (FalseOutcomes, "store"),
    "repeated-records": (Repeated, "log"),
    "swallowed-records": (Swallowed, "log"),
    "late-readers": (Late, "log"),
    "blind-readers": (Blind, "log"),
    "read-only": (ReadOnly, "store"),
    "none": (Passing, "store"),
}


class _Opened:
    name = "broken"

    def __init__(self, store: Store, log: Log) -> None:
        self.store = store
        self.log = log

    def statistics(self) -> dict[str, int | float | str]:
        return {}

    async def close(self) -> None:
        return


class BrokenSystem(System):
    """The engine in memory, broken in one way; all clients share it."""

    def __init__(self, how: str) -> None:
        self.name = "broken"
        self.settings = {}
        self._how = how
        self._engine: Engine | None = None

    @property
    def url(self) -> str:
        return "broken:"

    async def __aenter__(self) -> BrokenSystem:
        engine = await open_engine("memory:", clock=SystemClock(), entropy=SystemEntropy())
        ports: dict[str, Any] = {"store": engine.store, "log": engine.log}
        kind, port = BROKEN[self._how]
        ports[port] = kind(ports[port])
        self._engine = engine
        self._opened = _Opened(ports["store"], ports["log"])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._engine is not None:
            await self._engine.close()

    async def open(self, client: int) -> Engine:
        return self._opened
