"""Logs that each lack one safeguard: the docstring says which, `caught_by` which check must see it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from coterie.engines.memory.log import MemoryLog
from coterie.errors import Conflict, CoterieError, NotFound
from coterie.ports.log import Bounds, LogGuarantees, Record, Segment, Stored

from ..standin import DiskLog


class Mutant(DiskLog):
    """A log that is broken on purpose."""

    caught_by = ""


class OffsetsReused(Mutant):
    """After a trim the offsets go on from the records that are left."""

    caught_by = "offsets_are_never_used_again"

    async def trim(self, topic: str, partition: int, before: int) -> None:
        await super().trim(topic, partition, before)
        found = self._partition(topic, partition)
        if not found.records:
            found.first = 0


class OffsetsOfOneClient(Mutant):
    """Each client returns offsets by its own count."""

    caught_by = "offsets_rise"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        await super().append(topic, partition, records)
        count = self.__dict__["count"] = self.__dict__.get("count", 0) + len(records)
        return count - 1


class LosesAppends(Mutant):
    """An acknowledged append is not there."""

    caught_by = "an_acknowledged_append_is_read_at_once"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        last = await super().append(topic, partition, records)
        if last % 5 == 4:
            self._partition(topic, partition).records.pop()
        return last


class LateAppends(Mutant):
    """An append is acknowledged a little before it can be read."""

    caught_by = "an_acknowledged_append_is_read_at_once"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        task = asyncio.create_task(super().append(topic, partition, records))
        self.__dict__.setdefault("tasks", set()).add(task)
        return self._partition(topic, partition).next + len(records) - 1


class MixesAppends(Mutant):
    """Others may come between the records of one append."""

    caught_by = "the_records_of_an_append_are_adjacent"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        last = -1
        for record in records:
            last = await super().append(topic, partition, [record])
        return last


class AppendsTwice(Mutant):
    """An append is repeated as if its acknowledgement had been lost."""

    caught_by = "the_records_of_an_append_are_adjacent"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        last = await super().append(topic, partition, records)
        return await super().append(topic, partition, records) if last % 5 == 2 else last


class StopsHalfWay(Mutant):
    """An append that is cancelled leaves a part behind."""

    caught_by = "a_cancelled_append_is_there_whole_or_not"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        last = await super().append(topic, partition, records[:1])
        if len(records) > 1:
            lock = self.disk.objects.setdefault("lock", asyncio.Lock())
            async with lock:
                last = await super().append(topic, partition, records[1:])
        return last


class LosesKeys(Mutant):
    """The key of a record is not kept."""

    caught_by = "records_come_back_as_they_were_appended"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return await super().append(topic, partition, [Record(r.value, "", r.headers) for r in records])


class HeadersAreAMapping(Mutant):
    """A header whose name comes again replaces the first."""

    caught_by = "records_come_back_as_they_were_appended"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        kept = [Record(r.value, r.key, tuple(dict(r.headers).items())) for r in records]
        return await super().append(topic, partition, kept)


class TimesOfTheReader(Mutant):
    """A record's time is that of the read."""

    caught_by = "records_tell_when_they_were_appended"

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        segment = await super().read(topic, partition, offset, limit=limit)
        now = self._clock.time()
        return Segment(tuple(Stored(s.offset, s.record, now) for s in segment.records), segment.next_offset)


class TimesInMilliseconds(Mutant):
    """A record's time is in milliseconds."""

    caught_by = "records_tell_when_they_were_appended"

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        segment = await super().read(topic, partition, offset, limit=limit)
        kept = tuple(Stored(s.offset, s.record, s.time * 1000) for s in segment.records)
        return Segment(kept, segment.next_offset)


class SkipsAtTheLimit(Mutant):
    """Reading on after a full segment misses a record."""

    caught_by = "reading_is_exact"

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        segment = await super().read(topic, partition, offset, limit=limit)
        return Segment(segment.records, segment.next_offset + (len(segment.records) == limit))


class SkipsAtTheEnd(Mutant):
    """Reading at the end says to read on beyond the next record."""

    caught_by = "the_end_of_a_read_is_where_the_next_record_comes"

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        segment = await super().read(topic, partition, offset, limit=limit)
        at_the_end = not segment.records and offset == self._partition(topic, partition).next
        return Segment(segment.records, segment.next_offset + at_the_end)


class AnyLimit(Mutant):
    """The limit of a read is not looked at."""

    caught_by = "the_limit_has_bounds"

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        return await super().read(topic, partition, offset, limit=min(max(limit, 1), 10_000))


class BoundsAreTheLast(Mutant):
    """`next` is the last record's offset."""

    caught_by = "bounds_say_where_a_partition_begins_and_ends"

    async def bounds(self, topic: str, partition: int) -> Bounds:
        bounds = await super().bounds(topic, partition)
        return Bounds(bounds.first, max(bounds.next - 1, bounds.first))


class AnySize(Mutant):
    """The declared limit of a record is not kept."""

    caught_by = "the_limits_of_a_record_are_exact"

    @property
    def guarantees(self) -> LogGuarantees:
        return replace(super().guarantees, max_record_bytes=65536)


class AnyNumber(Mutant):
    """The declared limit of an append is not kept."""

    caught_by = "impossible_appends_are_refused"

    @property
    def guarantees(self) -> LogGuarantees:
        return replace(super().guarantees, max_append_records=8)


class AppendsUntilItFails(Mutant):
    """A refused append leaves the records before the bad one."""

    caught_by = "impossible_appends_are_refused"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        try:
            return await super().append(topic, partition, records)
        except CoterieError:
            if len(records) > 1:
                await super().append(topic, partition, records[:1])
            raise


class WaitsForAnything(Mutant):
    """A wait ends with any record, also one below its offset."""

    caught_by = "waiting_ends_with_the_record"

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        found = self._partition(topic, partition)
        await super().wait(topic, partition, min(offset, found.next))


class WaitsForTheNext(Mutant):
    """A wait ends with the next record, though there is one already."""

    caught_by = "waiting_ends_with_the_record"

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        await super().wait(topic, partition, max(offset, self._partition(topic, partition).next))


class WakesItsOwn(Mutant):
    """A wait does not see the records of other clients."""

    caught_by = "waiting_ends_with_the_record"

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        while True:
            await super().wait(topic, partition, offset)
            if self.__dict__.get("appended") or self._partition(topic, partition).next < 2:
                return
            await asyncio.sleep(0.01)

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        self.__dict__["appended"] = self._partition(topic, partition).next > 0
        return await super().append(topic, partition, records)


class ReadsPastTheReader(Mutant):
    """Now and then a read that follows the writers gives a record twice."""

    caught_by = "readers_follow_writers"

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        again = offset % 13 == 12 and limit == 7
        return await super().read(topic, partition, offset - again, limit=limit)


class TrimsOneMore(Mutant):
    """A trim takes the record at its offset as well."""

    caught_by = "trimming_lets_go_of_the_oldest"

    async def trim(self, topic: str, partition: int, before: int) -> None:
        await super().trim(topic, partition, before + 1)


class TrimsNothing(Mutant):
    """A trim does nothing."""

    caught_by = "trimming_lets_go_of_the_oldest"

    async def trim(self, topic: str, partition: int, before: int) -> None:
        self._partition(topic, partition)


class TrimsAllPartitions(Mutant):
    """A trim reaches the other partitions of its topic."""

    caught_by = "partitions_are_apart"

    async def trim(self, topic: str, partition: int, before: int) -> None:
        for each in range((await self.topics())[topic]):
            await super().trim(topic, each, before)


class NegativePartitions(Mutant):
    """A negative partition is counted from the end."""

    caught_by = "unknown_topics_are_not_found"

    async def bounds(self, topic: str, partition: int) -> Bounds:
        partitions = self._topics.get(topic, ())
        return await super().bounds(topic, partition % max(len(partitions), 1))


class CreatesOnAppend(Mutant):
    """Appending to an unknown topic makes it."""

    caught_by = "unknown_topics_are_not_found"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        await self.create(topic, (await self.topics()).get(topic, 1))
        return await super().append(topic, partition, records)


class GrowsTopics(Mutant):
    """Creating a topic again with another number of partitions seems to work."""

    caught_by = "topics_are_created_once"

    async def create(self, topic: str, partitions: int) -> None:
        try:
            await super().create(topic, partitions)
        except Conflict:
            return


class EachCreates(Mutant):
    """Of several who create a topic at once, each succeeds."""

    caught_by = "concurrent_creations_agree"

    async def create(self, topic: str, partitions: int) -> None:
        known = topic in self._topics
        await asyncio.sleep(0)
        if not known:
            self._topics.pop(topic, None)
        await MemoryLog.create(self, topic, partitions)


class AnyName(Mutant):
    """A topic may have any name."""

    caught_by = "impossible_topics_are_refused"

    async def create(self, topic: str, partitions: int) -> None:
        await super().create("".join(c for c in topic if "\0" < c < "\ud800")[:255] or "unnamed", partitions)


class DeletesNothing(Mutant):
    """A deleted topic keeps its records for the next of its name."""

    caught_by = "a_deleted_topic_is_gone"

    async def delete(self, topic: str) -> None:
        kept = self._topics.get(topic)
        await super().delete(topic)
        if kept is not None:
            self.disk.objects.setdefault("deleted", {})[topic] = kept

    async def create(self, topic: str, partitions: int) -> None:
        await super().create(topic, partitions)
        kept = self.disk.objects.get("deleted", {}).pop(topic, None)
        if kept is not None:
            self._topics[topic][: len(kept)] = kept[:partitions]


class WaitersOfDeletedTopicsHang(Mutant):
    """Deleting a topic leaves those who wait for it waiting."""

    caught_by = "deleting_a_topic_ends_the_waiting"

    async def delete(self, topic: str) -> None:
        self._topics.pop(topic, None)


class ClosedButReads(Mutant):
    """A closed log goes on answering."""

    caught_by = "a_closed_log_refuses_everything"

    async def topics(self) -> dict[str, int]:
        return {topic: len(partitions) for topic, partitions in self._topics.items()}


class ClosesEveryone(Mutant):
    """Closing one client closes the others."""

    caught_by = "closing_one_client_leaves_the_others"

    async def close(self) -> None:
        await super().close()
        self.disk.objects["closed"] = True

    def _demand_open(self) -> None:
        self._closed = self.disk.objects.get("closed", False)
        super()._demand_open()


class ForgetsTheLast(Mutant):
    """The last append before a reopening is lost."""

    caught_by = "acknowledged_records_outlive_a_reopening"

    async def close(self) -> None:
        await super().close()
        for partitions in self._topics.values():
            for partition in partitions:
                del partition.records[-1:]


class ForgetsOffsets(Mutant):
    """After a reopening the offsets of an empty partition begin anew."""

    caught_by = "acknowledged_records_outlive_a_reopening"

    async def close(self) -> None:
        await super().close()
        for partitions in self._topics.values():
            for partition in partitions:
                partition.first = partition.first if partition.records else 0


class AcknowledgesTooEarly(Mutant):
    """Of appends under way at the close, one is acknowledged and lost."""

    caught_by = "a_close_keeps_what_it_acknowledged"

    async def close(self) -> None:
        await super().close()
        for partitions in self._topics.values():
            del partitions[0].records[-1:]


class RefusesTooLate(Mutant):
    """Of appends under way at the close, some are refused and there all the same."""

    caught_by = "a_close_keeps_what_it_acknowledged"

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        last = await super().append(topic, partition, records)
        if last % 4 == 3:
            raise NotFound("refused")
        return last


MUTANTS = Mutant.__subclasses__()
