"""Appending, reading, waiting and trimming."""

from __future__ import annotations

import asyncio
import time

from ...errors import CoterieError, InvalidArgument, Outcome, TooLarge, Unavailable
from ...ports.log import Log, Record
from .._expect import background, expect, expect_equal, raises
from ..suite import check
from .fixture import TOPIC, LogFixture, append, durable, everything, several_clients, values


@check
async def records_come_back_as_they_were_appended(fixture: LogFixture) -> None:
    """Value, key and headers of a record are read again, the same, by every client and as often as asked."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    records = [
        Record(b""),
        Record(bytes(range(256)), "key"),
        Record(b"value", "clé 字😀", (("name", "text"), ("name", ""), ("é", "ü"))),
        Record(b"x" * 10_000, "", (("traceparent", "00-" + "0" * 50),)),
    ]
    last = await log.append(TOPIC, 0, records)
    for client in (log, other, log):
        found = await everything(client)
        expect_equal([stored.record for stored in found], records, "the records")
        expect_equal(found[-1].offset, last, "the offset of the last")


@check
async def offsets_rise(fixture: LogFixture) -> None:
    """The offsets of a partition rise from record to record and from append to append, for all clients."""
    clients = [fixture.log, await fixture.connect()]
    await fixture.log.create(TOPIC, 1)
    last = -1
    for round_ in range(8):
        offset = await append(clients[round_ % 2], b"a", b"b", b"c")
        expect(offset >= last + 3, f"three records after {last} end at {offset}")
        last = offset
    offsets = [stored.offset for stored in await everything(fixture.log)]
    expect_equal(offsets, sorted(set(offsets)), "the offsets")
    expect_equal((len(offsets), offsets[-1]), (24, last), "how many there are, and the last")


@check
async def reading_is_exact(fixture: LogFixture) -> None:
    """A read begins at its offset, skips nothing, stops at its limit, and says where to read on."""
    log = fixture.log
    await log.create(TOPIC, 1)
    for index in range(0, 40, 4):
        await append(log, *(b"%d" % (index + more) for more in range(4)))
    whole = await everything(log)
    expect_equal(values(whole), [b"%d" % index for index in range(40)], "the values")
    for limit in (1, 3, 39, 40, 41):
        expect_equal(await everything(log, limit=limit), whole, f"what is read in segments of {limit}")
        segment = await log.read(TOPIC, 0, whole[5].offset, limit=limit)
        expect_equal(
            list(segment.records), whole[5:][:limit], f"the segment of {limit} from the sixth record"
        )
        expect(
            segment.next_offset > segment.records[-1].offset,
            f"the segment says to read on at {segment.next_offset}",
        )
    end = await log.read(TOPIC, 0, whole[-1].offset + 1)
    expect_equal(end.records, (), "what is read at the end")
    far = whole[-1].offset + 1000
    segment = await log.read(TOPIC, 0, far)
    expect_equal((segment.records, segment.next_offset), ((), far), "what is read beyond the end")


@check
async def the_end_of_a_read_is_where_the_next_record_comes(fixture: LogFixture) -> None:
    """Reading on at `next_offset`, also of an empty segment, misses no later record."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    offset = 0
    for round_ in range(6):
        segment = await log.read(TOPIC, 0, offset)
        expect_equal(segment.records, (), "what is read at the end")
        await append(other, b"%d" % round_)
        segment = await log.read(TOPIC, 0, segment.next_offset)
        expect_equal(values(segment.records), [b"%d" % round_], "what is read after an append")
        offset = segment.next_offset


@check
async def the_limit_has_bounds(fixture: LogFixture) -> None:
    """A limit from 1 to 10,000 is taken, any other an `InvalidArgument`."""
    log = fixture.log
    await log.create(TOPIC, 1)
    await append(log, b"a", b"b")
    for limit in (1, 10_000):
        expect_equal(len((await log.read(TOPIC, 0, 0, limit=limit)).records), min(limit, 2), "the size")
    for limit in (0, -1, 10_001):
        with raises(InvalidArgument, what=f"a read with the limit {limit}"):
            await log.read(TOPIC, 0, 0, limit=limit)


@check
async def bounds_say_where_a_partition_begins_and_ends(fixture: LogFixture) -> None:
    """`first` is the oldest record kept, `next` is at most the next record's offset and above the last's."""
    log = fixture.log
    await log.create(TOPIC, 1)
    empty = await log.bounds(TOPIC, 0)
    expect_equal(empty.first, empty.next, "the first offset of an empty partition")
    for _ in range(3):
        before = await log.bounds(TOPIC, 0)
        last = await append(log, b"a", b"b")
        after = await log.bounds(TOPIC, 0)
        found = await everything(log)
        expect(before.next <= last - 1, f"`next` was {before.next}, and a record came at {last - 1}")
        expect(after.next > last, f"`next` is {after.next}, and the last record has {last}")
        expect(after.first <= found[0].offset, f"`first` is {after.first}, above the oldest record's")
    newest = (await everything(log))[-1].offset
    await log.trim(TOPIC, 0, newest)
    expect_equal((await log.bounds(TOPIC, 0)).first, newest, "the first offset after a trim")


@check
async def the_limits_of_a_record_are_exact(fixture: LogFixture) -> None:
    """A record of exactly the limit is kept; a byte more, in value, key or headers, is `TooLarge`."""
    log, most = fixture.log, fixture.log.guarantees.max_record_bytes
    await log.create(TOPIC, 1)
    rest = Record(b"", "ké", (("é", "12"),))  # 3 bytes of key and 4 of headers
    full = Record(b"v" * (most - 7), rest.key, rest.headers)
    await log.append(TOPIC, 0, [full])
    for record in (
        Record(full.value + b"v", rest.key, rest.headers),
        Record(full.value, rest.key + "k", rest.headers),
        Record(full.value, rest.key, (("é", "123"),)),
    ):
        with raises(TooLarge, Outcome.NOT_APPLIED, what="a record of one byte too many"):
            await log.append(TOPIC, 0, [Record(b"small"), record])
    found = await everything(log)
    expect(len(found) == 1 and found[0].record == full, "the log holds something else than the full record")


@check
async def impossible_appends_are_refused(fixture: LogFixture) -> None:
    """No records, too many, or what is no record is refused, and nothing is appended."""
    log, most = fixture.log, fixture.log.guarantees.max_append_records
    await log.create(TOPIC, 1)
    await log.append(TOPIC, 0, [Record(b"kept")] * most)
    with raises(TooLarge, Outcome.NOT_APPLIED, what=f"an append of {most + 1} records"):
        await log.append(TOPIC, 0, [Record(b"refused")] * (most + 1))
    for records in ([], [Record("text")], [Record(b"refused"), Record(b"", "nul\0")]):  # type: ignore[arg-type]
        with raises(InvalidArgument, Outcome.NOT_APPLIED, what=f"an append of {records}"):
            await log.append(TOPIC, 0, records)
    expect_equal(values(await everything(log)), [b"kept"] * most, "the records")


@check
async def the_records_of_an_append_are_adjacent(fixture: LogFixture) -> None:
    """Appends of several clients at once do not mix: each is there once, whole, in its order."""
    clients = [fixture.log, await fixture.connect()]
    await fixture.log.create(TOPIC, 1)

    async def write(client: Log, name: int) -> dict[int, list[bytes]]:
        acknowledged = {}
        for round_ in range(12):
            texts = [f"{name}-{round_}-{index}".encode() for index in range(3)]
            acknowledged[await append(client, *texts)] = texts
        return acknowledged

    results = await asyncio.gather(*(write(clients[name % 2], name) for name in range(6)))
    found = await everything(fixture.log)
    expect_equal(len(found), 6 * 12 * 3, "the number of records")
    at = {stored.offset: index for index, stored in enumerate(found)}
    for last, texts in (item for result in results for item in result.items()):
        expect(last in at, f"no record has the offset {last} that an append returned")
        expect_equal(values(found[at[last] - 2 : at[last] + 1]), texts, f"the records up to offset {last}")
    for name in range(6):
        own = [value for value in values(found) if value.startswith(b"%d-" % name)]
        wanted = [f"{name}-{round_}-{index}".encode() for round_ in range(12) for index in range(3)]
        expect_equal(own, wanted, "the records of one writer, in the order of its appends")


@check
async def readers_follow_writers(fixture: LogFixture) -> None:
    """A reader that waits and reads on, while others write, sees each record once and in order."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    total = 150

    async def write(client: Log, name: bytes) -> None:
        for index in range(total // 2):
            await append(client, b"%s-%d" % (name, index))

    async def follow(client: Log) -> list[bytes]:
        found: list[bytes] = []
        offset = 0
        while len(found) < total:
            await client.wait(TOPIC, 0, offset)
            segment = await client.read(TOPIC, 0, offset, limit=7)
            expect(segment.records, f"nothing can be read at {offset} although the wait for it returned")
            found += values(segment.records)
            offset = segment.next_offset
        return found

    async with background(follow(log)) as first, background(follow(other)) as second:
        await asyncio.gather(write(log, b"a"), write(other, b"b"))
        wanted = values(await everything(log))
        for follower in (first, second):
            expect_equal(await asyncio.wait_for(follower, 15), wanted, "what a follower saw")


@check
async def an_acknowledged_append_is_read_at_once(fixture: LogFixture) -> None:
    """When `append` has returned, every client reads the records."""
    clients = [fixture.log, await fixture.connect()]
    await fixture.log.create(TOPIC, 1)
    for round_ in range(20):
        offset = await append(clients[round_ % 2], b"%d" % round_)
        for client in clients:
            found = (await client.read(TOPIC, 0, offset)).records
            expect_equal(values(found), [b"%d" % round_], f"what is read at {offset}")
            await asyncio.wait_for(client.wait(TOPIC, 0, offset), 15)


@check
async def waiting_ends_with_the_record(fixture: LogFixture) -> None:
    """`wait` returns at once for what can be read, and otherwise when it can; not for anything less."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    offset = await append(log, b"first")
    for at in (0, offset):
        await asyncio.wait_for(log.wait(TOPIC, 0, at), 15)
    tasks = [asyncio.create_task(client.wait(TOPIC, 0, offset + 1)) for client in (log, other)]
    far = asyncio.create_task(log.wait(TOPIC, 0, offset + 100_000))
    try:
        await asyncio.sleep(0.03)
        expect(not any(task.done() for task in tasks), "a wait returned before its record")
        await append(other, b"second")
        _done, waiting = await asyncio.wait(tasks, timeout=15)
        expect(not waiting, "a wait goes on although its record can be read")
        expect(not far.done(), "a wait returned for a record below its offset")
    finally:
        for task in (*tasks, far):
            task.cancel()
    await asyncio.wait([far])
    await append(log, b"third")


@check
async def trimming_lets_go_of_the_oldest(fixture: LogFixture) -> None:
    """A trim drops exactly the records below its offset, for all clients at once; reading begins there."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    await append(log, *(b"%d" % index for index in range(10)))
    whole = await everything(log)
    for kept in (0, 3, 2, 9):  # a trim below an earlier one does nothing
        await other.trim(TOPIC, 0, whole[kept].offset)
        oldest = max(kept, 3) if kept == 2 else kept
        for client in (log, other):
            expect_equal(await everything(client), whole[oldest:], f"what is left after a trim to {kept}")
            segment = await client.read(TOPIC, 0, 0, limit=1)
            expect_equal(list(segment.records), whole[oldest : oldest + 1], "the oldest record")
            expect_equal((await client.bounds(TOPIC, 0)).first, whole[oldest].offset, "`first`")


@check
async def offsets_are_never_used_again(fixture: LogFixture) -> None:
    """After everything is trimmed the next record has a later offset than any before."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    last = -1
    for beyond in (1, 1000, 1):
        offset = await append(log, b"a", b"b")
        expect(offset > last + 1, f"two records after {last} end at {offset}")
        last = offset
        await other.trim(TOPIC, 0, last + beyond)
        expect_equal(await everything(log), [], "what is left")
        bounds = await log.bounds(TOPIC, 0)
        expect(bounds.first == bounds.next > last, f"the bounds are {bounds} after the offset {last}")
        waiting = asyncio.create_task(log.wait(TOPIC, 0, 0))
        await asyncio.sleep(0.01)
        expect(not waiting.done(), "a wait returned although everything is trimmed")
        last = await append(other, b"c")
        await asyncio.wait_for(waiting, 15)
        segment = await log.read(TOPIC, 0, 0)
        expect_equal([stored.offset for stored in segment.records], [last], "the offsets kept")


@check
async def records_tell_when_they_were_appended(fixture: LogFixture) -> None:
    """`Stored.time` is in seconds since 1970, and the same for every reader."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    await append(log, b"a", b"b")
    found = await everything(log)
    # A minute of grace: the engine may stand on another machine, and this is for people.
    expect(all(abs(stored.time - time.time()) < 60 for stored in found), f"the times are {found}")
    expect_equal(await everything(other), found, "what another client reads")


@check
async def a_cancelled_append_is_there_whole_or_not(fixture: LogFixture) -> None:
    """Cancelling an append under way leaves all its records or none, once, and the log in good order."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    for round_ in range(25):
        texts = [b"%d-%d" % (round_, index) for index in range(3)]
        tasks = [asyncio.create_task(append(log, *texts)) for _ in range(3)]
        for _ in range(round_ % 5):
            await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        expect(isinstance(results[1], int), f"a neighbour of a cancelled append ended with {results[1]!r}")
        own = [value for value in values(await everything(other)) if value.startswith(b"%d-" % round_)]
        count = len(own) // 3
        expect(1 <= count <= 3 and own == texts * count, f"what is left of cancelled appends: {own}")


@check
async def a_closed_log_refuses_everything(fixture: LogFixture) -> None:
    """After `close`, which may be called again, every call raises `Unavailable`, and so do the waiting."""
    log = await fixture.connect()
    await log.create(TOPIC, 1)
    waiting = asyncio.create_task(log.wait(TOPIC, 0, 0))
    await asyncio.sleep(0.02)
    await log.close()
    await log.close()
    with raises(Unavailable, what="a wait under way"):
        await asyncio.wait_for(waiting, 15)
    with raises(Unavailable, what="create"):
        await log.create("other", 1)
    with raises(Unavailable, what="topics"):
        await log.topics()
    with raises(Unavailable, Outcome.NOT_APPLIED, what="append"):
        await append(log, b"")
    with raises(Unavailable, what="read"):
        await log.read(TOPIC, 0, 0)
    with raises(Unavailable, what="wait"):
        await asyncio.wait_for(log.wait(TOPIC, 0, 0), 15)
    with raises(Unavailable, what="bounds"):
        await log.bounds(TOPIC, 0)
    with raises(Unavailable, what="trim"):
        await log.trim(TOPIC, 0, 0)
    with raises(Unavailable, what="delete"):
        await log.delete(TOPIC)


@check(when=several_clients)
async def closing_one_client_leaves_the_others(fixture: LogFixture) -> None:
    """What one client does to itself is nothing to the others: they append, read and wait on."""
    log, other = fixture.log, await fixture.connect()
    await log.create(TOPIC, 1)
    waiting = asyncio.create_task(log.wait(TOPIC, 0, 0))
    await other.close()
    await append(log, b"a")
    await asyncio.wait_for(waiting, 15)
    expect_equal(values(await everything(log)), [b"a"], "the records")


@check(when=durable)
async def acknowledged_records_outlive_a_reopening(fixture: LogFixture) -> None:
    """Topics, records, times and the rise of offsets are the same after the log is opened again."""
    log = fixture.log
    await log.create(TOPIC, 2)
    await log.create("trimmed", 1)
    await log.create("deleted", 1)
    for round_ in range(20):
        await append(log, b"%d-a" % round_, b"%d-b" % round_, partition=round_ % 2)
    last = await append(log, b"x", topic="trimmed")
    await log.trim("trimmed", 0, last + 1)
    await log.delete("deleted")
    before = [await everything(log, partition=partition) for partition in range(2)]
    log = await fixture.reopen()
    expect_equal(await log.topics(), {TOPIC: 2, "trimmed": 1}, "the topics")
    after = [await everything(log, partition=partition) for partition in range(2)]
    expect_equal(after, before, "the records")
    expect(await append(log, b"y", topic="trimmed") > last, "an offset is used again")


@check(when=durable)
async def a_close_keeps_what_it_acknowledged(fixture: LogFixture) -> None:
    """Of the appends under way when the log is closed, the acknowledged are kept, the refused are not."""
    log = fixture.log
    await log.create(TOPIC, 1)
    acknowledged: set[bytes] = set()
    refused: set[bytes] = set()
    first = asyncio.Event()

    async def attempt(text: bytes) -> None:
        try:
            await append(log, text)
        except CoterieError as error:
            if error.outcome is Outcome.NOT_APPLIED:
                refused.add(text)
        else:
            acknowledged.add(text)
            first.set()

    appends = [asyncio.create_task(attempt(b"%d" % index)) for index in range(60)]
    await asyncio.wait_for(first.wait(), 15)
    await log.close()
    await asyncio.wait_for(asyncio.gather(*appends), 15)
    found = values(await everything(await fixture.reopen()))
    expect_equal(len(set(found)), len(found), "the number of distinct records")
    expect(acknowledged <= set(found), f"acknowledged and lost: {sorted(acknowledged - set(found))}")
    expect(not refused & set(found), f"refused and appended: {sorted(refused & set(found))}")
