"""The reference implementation of the `Log` port: a list of records a partition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...errors import Conflict, NotFound, Outcome, Unavailable
from ...ports.clock import Clock
from ...ports.guarantees import Durability, Scope
from ...ports.log import (
    Bounds,
    LogGuarantees,
    Record,
    Segment,
    Stored,
    validate_limit,
    validate_records,
    validate_topic,
)

__all__ = ["MemoryLog"]

_GUARANTEES = LogGuarantees(
    engine="memory",
    durability=Durability.NONE,
    scope=Scope.PROCESS,
    notes=("Everything is lost when the process ends.",),
)


@dataclass(slots=True, eq=False)
class _Partition:
    """The records from the offset `first` to before `next`; offsets are dense."""

    records: list[Stored] = field(default_factory=list)
    first: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def next(self) -> int:
        return self.first + len(self.records)

    def wake(self) -> None:
        """Let those who wait look again, at what they see now and not at the next change."""
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryLog:
    """`Log` in the memory of one process. Several nodes of the process may share one."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._topics: dict[str, list[_Partition]] = {}
        self._closed = False

    @property
    def guarantees(self) -> LogGuarantees:
        return _GUARANTEES

    async def create(self, topic: str, partitions: int) -> None:
        validate_topic(topic, partitions, _GUARANTEES)
        self._demand_open()
        known = self._topics.setdefault(topic, [])
        if not known:
            known.extend(_Partition() for _ in range(partitions))
        elif len(known) != partitions:
            raise Conflict(f"the topic {topic!r} has {len(known)} partitions, not {partitions}")

    async def topics(self) -> dict[str, int]:
        self._demand_open()
        return {topic: len(partitions) for topic, partitions in self._topics.items()}

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        validate_records(records, _GUARANTEES)
        # As in the store: writers interleave, and a cancelled caller has appended nothing.
        await asyncio.sleep(0)
        found = self._partition(topic, partition)
        now = self._clock.time()
        found.records += [Stored(offset, record, now) for offset, record in enumerate(records, found.next)]
        found.wake()
        return found.next - 1

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        validate_limit(limit)
        found = self._partition(topic, partition)
        start = max(offset, found.first)
        records = tuple(found.records[start - found.first :][:limit])
        return Segment(records, start + len(records))

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        found = self._partition(topic, partition)
        while found.next <= max(offset, found.first):
            await found.changed.wait()
            if self._partition(topic, partition) is not found:
                raise NotFound(f"the topic {topic!r} was deleted, and made anew")

    async def bounds(self, topic: str, partition: int) -> Bounds:
        found = self._partition(topic, partition)
        return Bounds(found.first, found.next)

    async def trim(self, topic: str, partition: int, before: int) -> None:
        found = self._partition(topic, partition)
        count = min(max(before - found.first, 0), len(found.records))
        del found.records[:count]
        found.first += count

    async def delete(self, topic: str) -> None:
        self._demand_open()
        for partition in self._topics.pop(topic, ()):
            partition.wake()

    async def close(self) -> None:
        self._closed = True
        for partitions in self._topics.values():
            for partition in partitions:
                partition.wake()

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters for `Engine.statistics`."""
        partitions = [partition for topic in self._topics.values() for partition in topic]
        return {
            "log_topics": len(self._topics),
            "log_partitions": len(partitions),
            "log_records": sum(len(partition.records) for partition in partitions),
        }

    def _partition(self, topic: str, partition: int) -> _Partition:
        self._demand_open()
        try:
            partitions = self._topics[topic]
        except KeyError:
            raise NotFound(f"there is no topic {topic!r}", hint="create it first") from None
        if not 0 <= partition < len(partitions):
            raise NotFound(
                f"the topic {topic!r} has the partitions 0 to {len(partitions) - 1}, not {partition}"
            )
        return partitions[partition]

    def _demand_open(self) -> None:
        if self._closed:
            raise Unavailable("the log is closed", outcome=Outcome.NOT_APPLIED)
