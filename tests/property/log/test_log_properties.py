"""Each log does what the model does, whatever the order; and a broken one is found out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from log_machine import SETTINGS, LogMachine

from coterie.engines.memory import MemoryLog
from coterie.engines.system import SystemClock
from coterie.ports import Log
from coterie.ports.log import Record, Segment


class MemoryMachine(LogMachine):
    """The memory log."""

    log_type: type[MemoryLog] = MemoryLog

    async def open(self) -> Log:
        return self.log_type(clock=SystemClock())


# Ends at the first failure, so that a rare one may take many examples.
WITHOUT_SHRINKING = settings(SETTINGS, phases=[Phase.generate], report_multiple_bugs=False, max_examples=2000)

TestMemoryLog = MemoryMachine.TestCase
TestMemoryLog.settings = SETTINGS


class CountsWhatIsLeft(MemoryLog):
    """Offsets go on from the number of records that are left."""

    async def trim(self, topic: str, partition: int, before: int) -> None:
        await super().trim(topic, partition, before)
        found = self._partition(topic, partition)
        found.first = 0 if not found.records else found.first


class TrimsOneMore(MemoryLog):
    """A trim takes the record at its offset as well."""

    async def trim(self, topic: str, partition: int, before: int) -> None:
        await super().trim(topic, partition, before + 1)


class MixesAppends(MemoryLog):
    """Others may come between the records of one append."""

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        last = -1
        for record in records:
            last = await super().append(topic, partition, [record])
        return last


class SkipsAtTheLimit(MemoryLog):
    """Reading on after a segment of three misses a record."""

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        segment = await super().read(topic, partition, offset, limit=limit)
        return Segment(segment.records, segment.next_offset + (limit == len(segment.records) == 3))


class KeepsTheDeleted(MemoryLog):
    """A topic made anew has the records of the one that was deleted."""

    async def delete(self, topic: str) -> None:
        kept = self._topics.get(topic)
        await super().delete(topic)
        self.__dict__.setdefault("deleted", {})[topic] = kept

    async def create(self, topic: str, partitions: int) -> None:
        await super().create(topic, partitions)
        kept = self.__dict__.get("deleted", {}).pop(topic, None)
        if kept is not None and len(kept) == partitions:
            self._topics[topic] = kept


@pytest.mark.parametrize(
    "broken", [CountsWhatIsLeft, TrimsOneMore, MixesAppends, SkipsAtTheLimit, KeepsTheDeleted]
)
def test_the_machine_finds_a_broken_log(broken: type[MemoryLog]) -> None:
    class Broken(MemoryMachine):
        log_type = broken

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Broken, settings=WITHOUT_SHRINKING)
