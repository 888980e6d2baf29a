"""Random interleavings of everything that a log can do, held against a list of records a partition."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coterie.errors import Conflict, CoterieError, NotFound
from coterie.ports import Log
from coterie.ports.log import Record, Stored

T = TypeVar("T")

# The same examples in every run: a failure in CI is a failure at home. `--hypothesis-seed` draws others.
SETTINGS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

records = st.builds(
    Record,
    st.binary(max_size=8),
    st.sampled_from(["", "key", "é"]),
    st.sampled_from([(), (("name", "text"),), (("a", ""), ("a", "ü"))]),
)
batches = st.lists(records, min_size=1, max_size=4)
topic_names = st.sampled_from(["t", "T", "été"])


@dataclass
class PartitionModel:
    """The records that are kept, and the greatest offset ever given out."""

    kept: list[Stored] = field(default_factory=list)
    last: int = -1


async def outcome_of(operation: Coroutine[Any, Any, T]) -> T | CoterieError:
    """Return what `operation` returns, or the error that it raises."""
    try:
        return await operation
    except CoterieError as error:
        return error


class LogMachine(RuleBasedStateMachine):
    """Subclasses open the log. The state is one event loop, one log and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, list[PartitionModel]] = {}
        self.log = self.run(self.open())

    async def open(self) -> Log:
        """Open the log, with what it had when it was closed."""
        raise NotImplementedError

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 20))

    def teardown(self) -> None:
        self.run(self.log.close())
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def partition(self, data: st.DataObject) -> tuple[str, int, PartitionModel]:
        """Draw a partition that exists."""
        places = [(topic, index) for topic in sorted(self.model) for index in range(len(self.model[topic]))]
        topic, index = data.draw(st.sampled_from(places))
        return topic, index, self.model[topic][index]

    def learn(self, topic: str, index: int, appended: list[Record], last: int) -> None:
        """Take over what was just appended, which must be `appended` and end at the offset `last`."""
        partition = self.model[topic][index]
        new = list(self.run(self.log.read(topic, index, partition.last + 1, limit=10_000)).records)
        assert [stored.record for stored in new] == appended
        offsets = [stored.offset for stored in new]
        assert offsets == sorted(set(offsets)), f"the offsets {offsets} do not rise"
        assert offsets[0] > partition.last, f"{offsets[0]} is not beyond {partition.last}"
        assert offsets[-1] == last
        partition.kept += new
        partition.last = last

    @rule(topic=topic_names, partitions=st.integers(1, 3))
    def create(self, topic: str, partitions: int) -> None:
        result = self.run(outcome_of(self.log.create(topic, partitions)))
        known = self.model.setdefault(topic, [PartitionModel() for _ in range(partitions)])
        assert type(result) is (type(None) if len(known) == partitions else Conflict)

    @rule(topic=topic_names)
    def delete(self, topic: str) -> None:
        self.run(self.log.delete(topic))
        self.model.pop(topic, None)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), batch=batches)
    def append(self, data: st.DataObject, batch: list[Record]) -> None:
        topic, index, _partition = self.partition(data)
        self.learn(topic, index, batch, self.run(self.log.append(topic, index, batch)))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), several=st.lists(batches, min_size=2, max_size=4))
    def race(self, data: st.DataObject, several: list[list[Record]]) -> None:
        topic, index, _partition = self.partition(data)

        async def run() -> list[int]:
            return await asyncio.gather(*(self.log.append(topic, index, batch) for batch in several))

        lasts = self.run(run())
        assert len(set(lasts)) == len(lasts)
        order = sorted(range(len(several)), key=lasts.__getitem__)
        self.learn(topic, index, [record for each in order for record in several[each]], max(lasts))
        at = {stored.offset: stored.record for stored in self.model[topic][index].kept}
        assert [at[last] for last in lasts] == [batch[-1] for batch in several]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), batch=batches, turns=st.integers(0, 6))
    def cancel(self, data: st.DataObject, batch: list[Record], turns: int) -> None:
        topic, index, _partition = self.partition(data)
        after = [Record(b"after")]

        async def run() -> int:
            task = asyncio.ensure_future(self.log.append(topic, index, batch))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return await self.log.append(topic, index, after)  # whatever was under way is settled before this

        last = self.run(run())
        first = self.model[topic][index].last + 1
        count = len(self.run(self.log.read(topic, index, first, limit=10_000)).records)
        self.learn(topic, index, after if count == 1 else batch + after, last)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), back=st.integers(-2, 12), limit=st.integers(1, 5))
    def read(self, data: st.DataObject, back: int, limit: int) -> None:
        topic, index, partition = self.partition(data)
        offset = max(partition.last - back, 0)
        wanted = [stored for stored in partition.kept if stored.offset >= offset]
        segment = self.run(self.log.read(topic, index, offset, limit=limit))
        assert list(segment.records) == wanted[:limit]
        rest = self.run(self.log.read(topic, index, segment.next_offset, limit=10_000))
        assert list(rest.records) == wanted[limit:]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), back=st.integers(-3, 12))
    def trim(self, data: st.DataObject, back: int) -> None:
        topic, index, partition = self.partition(data)
        before = max(partition.last + 1 - back, 0)
        self.run(self.log.trim(topic, index, before))
        partition.kept = [stored for stored in partition.kept if stored.offset >= before]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), ahead=st.integers(0, 2), batch=batches)
    def wait(self, data: st.DataObject, ahead: int, batch: list[Record]) -> None:
        topic, index, partition = self.partition(data)
        if partition.kept:
            self.run(self.log.wait(topic, index, partition.kept[-1].offset))

        async def run() -> int:
            waiting = asyncio.ensure_future(self.log.wait(topic, index, partition.last + 1 + ahead))
            await asyncio.sleep(0)
            assert not waiting.done(), "a wait returned before its record"
            last = await self.log.append(topic, index, batch)
            if last <= partition.last + ahead:
                waiting.cancel()
                await asyncio.wait([waiting])
            else:
                await waiting
            return last

        self.learn(topic, index, batch, self.run(run()))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def bounds(self, data: st.DataObject) -> None:
        topic, index, partition = self.partition(data)
        bounds = self.run(self.log.bounds(topic, index))
        assert bounds.next > partition.last
        if partition.kept:
            assert bounds.first <= partition.kept[0].offset
        else:
            assert bounds.first == bounds.next

    @rule(topic=topic_names, index=st.sampled_from([-1, 3, 7]))
    def miss(self, topic: str, index: int) -> None:
        assert type(self.run(outcome_of(self.log.read(topic, index, 0)))) is NotFound
        assert type(self.run(outcome_of(self.log.append(topic, index, [Record(b"")])))) is NotFound

    @invariant()
    def the_log_is_as_the_model_says(self) -> None:
        assert self.run(self.log.topics()) == {topic: len(known) for topic, known in self.model.items()}
        for topic, partitions in self.model.items():
            for index, partition in enumerate(partitions):
                assert list(self.run(self.log.read(topic, index, 0, limit=10_000)).records) == partition.kept
