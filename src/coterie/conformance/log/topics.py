"""Topics and their partitions: created, listed, deleted."""

from __future__ import annotations

import asyncio

from ...errors import Conflict, InvalidArgument, NotFound, Outcome
from ...ports.log import Log, Record
from .._expect import expect, expect_equal, raises
from ..suite import check
from .fixture import TOPIC, LogFixture, append, everything, values


@check
async def the_guarantees_make_sense(fixture: LogFixture) -> None:
    """The declared limits are positive, allow a useful log, and are the same for every client."""
    given = fixture.log.guarantees
    expect(given.engine, "the guarantees name no engine")
    expect(given.max_record_bytes >= 65536, f"max_record_bytes is {given.max_record_bytes}, below 64 KiB")
    expect(given.max_append_records >= 8, f"max_append_records is {given.max_append_records}, below 8")
    expect(given.max_partitions >= 8, f"max_partitions is {given.max_partitions}, below 8")
    other = await fixture.connect()
    expect_equal(other.guarantees, given, "what another client guarantees")


@check
async def topics_are_created_once(fixture: LogFixture) -> None:
    """Creating a topic again does nothing; with another number of partitions it is a `Conflict`."""
    log, other = fixture.log, await fixture.connect()
    expect_equal(await log.topics(), {}, "the topics of a new log")
    await log.create(TOPIC, 3)
    await append(log, b"kept")
    await other.create(TOPIC, 3)
    await log.create("thème/β", 1)
    for partitions in (1, 4):
        for client in (log, other):
            with raises(Conflict, Outcome.NOT_APPLIED, what=f"creating it with {partitions} partitions"):
                await client.create(TOPIC, partitions)
    for client in (log, other):
        expect_equal(await client.topics(), {TOPIC: 3, "thème/β": 1}, "the topics")
    expect_equal(values(await everything(log)), [b"kept"], "the records")


@check
async def concurrent_creations_agree(fixture: LogFixture) -> None:
    """When several clients create one topic at once, one number of partitions wins and all know it."""
    clients = [fixture.log, await fixture.connect()]

    async def create(client: Log, partitions: int) -> int:
        try:
            await client.create(TOPIC, partitions)
        except Conflict:
            return 0
        return partitions

    created = await asyncio.gather(*(create(clients[i % 2], 1 + i % 3) for i in range(12)))
    won = set(created) - {0}
    expect_equal(len(won), 1, "how many numbers of partitions won")
    expect_equal(await fixture.log.topics(), {TOPIC: won.pop()}, "the topics")


@check
async def impossible_topics_are_refused(fixture: LogFixture) -> None:
    """A topic without a proper name or number of partitions is an `InvalidArgument`."""
    log = fixture.log
    for name in ("", "nul\0", "half \ud800", "t" * 2000):
        with raises(InvalidArgument, Outcome.NOT_APPLIED, what=f"the topic {name[:10]!r}"):
            await log.create(name, 1)
    for partitions in (0, -1, log.guarantees.max_partitions + 1):
        with raises(InvalidArgument, Outcome.NOT_APPLIED, what=f"a topic of {partitions} partitions"):
            await log.create(TOPIC, partitions)
    expect_equal(await log.topics(), {}, "the topics")


@check
async def unknown_topics_are_not_found(fixture: LogFixture) -> None:
    """Every call that names a topic or a partition that does not exist raises `NotFound`."""
    log = fixture.log
    await log.create(TOPIC, 2)
    for topic, partition in (("nothing", 0), (TOPIC, 2), (TOPIC, -1), ("Topic", 0)):
        what = f"{topic!r}, partition {partition}"
        with raises(NotFound, Outcome.NOT_APPLIED, what=f"append to {what}"):
            await log.append(topic, partition, [Record(b"")])
        with raises(NotFound, what=f"read of {what}"):
            await log.read(topic, partition, 0)
        with raises(NotFound, what=f"wait for {what}"):
            await asyncio.wait_for(log.wait(topic, partition, 0), 15)
        with raises(NotFound, what=f"bounds of {what}"):
            await log.bounds(topic, partition)
        with raises(NotFound, what=f"trim of {what}"):
            await log.trim(topic, partition, 0)
    expect_equal(await log.topics(), {TOPIC: 2}, "the topics")


@check
async def a_deleted_topic_is_gone(fixture: LogFixture) -> None:
    """Deleting a topic takes its records with it, and leaves every other; twice is once."""
    log, other = fixture.log, await fixture.connect()
    for topic in (TOPIC, "other"):
        await log.create(topic, 2)
        await append(log, b"old", topic=topic)
    await other.delete(TOPIC)
    await log.delete(TOPIC)
    await log.delete("nothing")
    expect_equal(await log.topics(), {"other": 2}, "the topics")
    for client in (log, other):
        with raises(NotFound, what="a read of the deleted topic"):
            await client.read(TOPIC, 0, 0)
    expect_equal(values(await everything(other, topic="other")), [b"old"], "the other topic")
    await log.create(TOPIC, 5)
    expect_equal(await everything(other), [], "the records of a topic made anew")
    await append(other, b"new")
    expect_equal(values(await everything(log)), [b"new"], "the records of a topic made anew")


@check
async def deleting_a_topic_ends_the_waiting(fixture: LogFixture) -> None:
    """Who waits for a record of a topic that is deleted gets `NotFound`."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    waiting = asyncio.create_task(log.wait(TOPIC, 0, 0))
    await asyncio.sleep(0.02)
    await other.delete(TOPIC)
    with raises(NotFound, what="the wait"):
        await asyncio.wait_for(waiting, 15)


@check
async def partitions_are_apart(fixture: LogFixture) -> None:
    """Records, offsets and trims of one partition do not show in another, nor in another topic."""
    log = fixture.log
    await log.create(TOPIC, 3)
    await log.create("other", 3)
    for partition in range(3):
        for topic in (TOPIC, "other"):
            await append(
                log, *[f"{topic}-{partition}".encode()] * (partition + 1), topic=topic, partition=partition
            )
    await log.trim(TOPIC, 1, (await log.bounds(TOPIC, 1)).next)
    for topic in (TOPIC, "other"):
        for partition in range(3):
            count = 0 if (topic, partition) == (TOPIC, 1) else partition + 1
            found = values(await everything(log, topic=topic, partition=partition))
            expect_equal(found, [f"{topic}-{partition}".encode()] * count, f"{topic}, partition {partition}")
    bounds = await log.bounds("other", 0)
    expect(bounds.first < bounds.next, f"the bounds are {bounds}")
