"""Several engines on one file: what they see of each other, and what they do to each other."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec
import pytest
from sqlite_process import Process, processes

from coterie.engines.sqlite import SqliteEngine, open_engine
from coterie.engines.sqlite.follower import Follower
from coterie.engines.sqlite.hub import Hub
from coterie.engines.sqlite.link import Do, Following, Join, News
from coterie.engines.sqlite.operations import DoCommit, Expire
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import InvalidArgument, LeaseLost, NotFound, TooLarge, Unavailable
from coterie.ports.log import Record
from coterie.ports.store import Check, Commit, Fence, Put

Open = Callable[[Path], Awaitable[SqliteEngine]]


@pytest.fixture
async def open_at() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def open_one(path: Path) -> SqliteEngine:
            engine = await open_engine(f"sqlite:///{path}", clock=SystemClock(), entropy=SystemEntropy())
            stack.push_async_callback(engine.close)
            return engine

        yield open_one


def roles(*engines: SqliteEngine) -> list[object]:
    return [engine.statistics()["role"] for engine in engines]


async def test_a_watch_follows_what_other_processes_write(tmp_path: Path) -> None:
    async with processes(tmp_path / "a.db", 3) as (leader, second, third):
        watches = [process.watch("k/") for process in (leader, second, third)]
        for watch in watches:
            assert (await anext(watch))["changes"] == []
        versions = []
        for number in range(30):
            await third.put("other", "")
            versions.append(await (leader, second, third)[number % 3].put(f"k/{number % 4}", str(number)))
        for watch in watches:
            for number, version in enumerate(versions):
                batch = await anext(watch)
                assert batch["changes"] == [[f"k/{number % 4}", str(number), version]]
                assert (batch["revision"], batch["snapshot"]) == (version, False)


async def test_a_watch_begins_anew_with_the_next_writer(tmp_path: Path) -> None:
    async with processes(tmp_path / "a.db", 3) as (leader, second, third):
        watch = third.watch("k")
        await second.put("k", "1")
        assert (await anext(watch))["snapshot"]
        await leader.kill()
        version = await second.put("k", "2")
        while (batch := await anext(watch))["changes"] != [["k", "2", version]]:
            assert batch["revision"] < version
        version = await second.put("k", "3")
        while (batch := await anext(watch))["changes"] != [["k", "3", version]]:
            assert batch["snapshot"]


async def test_records_wake_those_who_wait_in_other_processes(tmp_path: Path) -> None:
    async with processes(tmp_path / "a.db", 3) as (leader, second, third):
        await second.ask("create", "t")
        waiting = [process.begin("wait", "t", 0) for process in (leader, second, third)]
        assert await third.ask("append", "t", "a") == 0
        assert await asyncio.gather(*waiting) == [["a"]] * 3
        waiting = [process.begin("wait", "t", 1) for process in (second, third)]
        await leader.kill()
        assert await second.ask("append", "t", "b") == 1
        assert await asyncio.gather(*waiting) == [["b"]] * 2


async def test_a_record_that_comes_while_a_process_joins_is_not_missed(tmp_path: Path, open_at: Open) -> None:
    leader = await open_at(tmp_path / "a.db")
    await leader.log.create("t", 1)
    for offset in range(40):
        follower = await open_at(tmp_path / "a.db")
        waiting = asyncio.create_task(follower.log.wait("t", 0, offset))
        await asyncio.sleep(0)  # It has looked at the file by now, and the writer may not know of it.
        await leader.log.append("t", 0, [Record(b"")])
        async with asyncio.timeout(10):
            await waiting
        await follower.close()


async def test_the_writer_says_from_when_on_it_tells_of_records(tmp_path: Path, open_at: Open) -> None:
    """A process that looked at the file before then looks again, or it would miss what came between."""
    leader = await open_at(tmp_path / "a.db")
    await leader.log.create("t", 1)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "a.db-writer.sock")
    join = msgspec.msgpack.encode(Join("x"))
    writer.write(struct.pack(">I", len(join)) + join)
    async with asyncio.timeout(10):
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        assert msgspec.msgpack.decode(answer, type=Following) == Following(0)
        await leader.log.append("t", 0, [Record(b"")])
        news = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        assert msgspec.msgpack.decode(news, type=News).appended == [("t", 0, 1)]
    writer.close()
    await writer.wait_closed()
    hub = Hub()
    waiting = hub.waiter("t", 0)
    Follower("x", hub, lambda _number, _result: None).received(Following(0))
    assert waiting.done()


async def test_a_watch_that_was_given_up_at_a_stopped_writer_still_begins_with_a_snapshot(
    tmp_path: Path, open_at: Open
) -> None:
    leader = await Process.start(tmp_path / "a.db")
    await leader.put("k", "1")
    follower = await open_at(tmp_path / "a.db")
    watch = follower.store.watch("k")
    leader.stop()
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watch), 0.05)
        closing = follower.store.watch("k")
        waiting = asyncio.ensure_future(anext(closing, None))
        await asyncio.sleep(0)
        await closing.aclose()
        assert await asyncio.wait_for(waiting, 10) is None
        leader.resume()
        batch = await asyncio.wait_for(anext(watch), 10)
        assert batch.snapshot
        assert [change.value for change in batch.changes] == [b"1"]
    finally:
        await leader.kill()


async def test_paths_that_no_unix_socket_can_have(tmp_path: Path) -> None:
    path = tmp_path / ("long-" * 20) / ("longer-" * 20) / "a.db"
    async with processes(path, 3) as (leader, second, third):
        await third.put("key", "1")
        await leader.kill()
        await second.put("key", "2")
        assert (await third.ask("get", "key"))[0] == "2"


async def test_all_names_of_a_file_have_one_writer(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "alias.db").symlink_to(tmp_path / "real" / "a.db")
    started: list[Process] = []
    try:
        for name, cwd in (("real/a.db", tmp_path), ("a.db", tmp_path / "link"), ("alias.db", tmp_path)):
            started.append(await Process.start(name, cwd=cwd))
        assert [await process.role() for process in started] == ["writer", "follower", "follower"]
        versions = [await process.put("key", "") for process in started]
        assert versions == [1, 2, 3]
    finally:
        for process in started:
            await process.kill()


async def test_garbage_on_the_socket_harms_nobody(tmp_path: Path, open_at: Open) -> None:
    leader, follower = await open_at(tmp_path / "a.db"), await open_at(tmp_path / "a.db")
    chance = random.Random(4)
    encode = msgspec.msgpack.encode
    frames = [encode(Do(1, 0, DoCommit(Commit((Put("stolen", b""),)))))]  # Nobody joined.
    frames += [encode(Join("x")) + b"?", encode([9, 9]), encode({"a": 1}), b"", encode([1, 2])]
    garbage = [struct.pack(">I", len(frame)) + frame for frame in frames]
    garbage.append(
        b"".join(struct.pack(">I", len(f)) + f for f in (encode(Join("x")), encode(Do(1, 0, Expire()))))
    )
    garbage += [b"\xff" * 8, b"GET / HTTP/1.1\r\n\r\n", *(chance.randbytes(200) for _ in range(20))]
    for data in garbage:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "a.db-writer.sock")
        writer.write(data)
        with suppress(ConnectionError):
            writer.write_eof()
            async with asyncio.timeout(10):
                await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await follower.store.commit(Commit((Put("key", data[:10]),)))
    assert await leader.store.get("stolen") is None
    assert follower.statistics()["takeovers"] == 0
    assert leader.statistics()["processes"] == 2


@pytest.mark.parametrize("role", ["writer", "follower"])
async def test_what_cannot_be_stored_fails_alone(tmp_path: Path, open_at: Open, role: str) -> None:
    leader, follower = await open_at(tmp_path / "a.db"), await open_at(tmp_path / "a.db")
    engine = leader if role == "writer" else follower
    store, log = engine.store, engine.log
    await log.create("t", 1)
    huge = 2**70
    put = (Put("key", b""),)
    bystanders = [asyncio.ensure_future(e.store.commit(Commit(put))) for e in (leader, follower)]
    for wrong in (
        Commit(put, checks=(Check("key", huge),)),
        Commit(put, checks=(Check("key", "1"),)),  # type: ignore[arg-type]
        Commit(put, fences=(Fence("fence", huge),)),
        Commit((Put("key", b"", huge),)),
        Commit((Put("key", b"", "x"),)),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArgument):
            await store.commit(wrong)
    with pytest.raises(LeaseLost):
        await store.renew(huge)
    await store.revoke(huge)
    for topic, partition, error in (
        ("t", huge, NotFound), ("t", -1, NotFound), ("none", 0, NotFound),
        ("\ud800", 0, InvalidArgument), (5, 0, InvalidArgument),
    ):  # fmt: skip
        with pytest.raises(error):
            await log.append(topic, partition, [Record(b"")])  # type: ignore[arg-type]
        with pytest.raises(error):
            await log.read(topic, partition, 0)  # type: ignore[arg-type]
        with pytest.raises(error):
            await log.trim(topic, partition, 0)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        await log.append("t", 0, [Record(b"", None)])  # type: ignore[arg-type]
    with pytest.raises(TooLarge):
        await log.append("t", 0, [Record(bytes(1024 * 1024))] * 129)
    assert (await log.read("t", 0, huge)).records == ()
    await log.trim("t", 0, huge)
    assert sorted(await asyncio.gather(*bystanders)) == [1, 2]
    assert await store.commit(Commit(put)) == 3
    assert roles(leader, follower) == ["writer", "follower"]


async def test_a_close_beside_busy_peers_loses_nothing(tmp_path: Path, open_at: Open) -> None:
    engines = [await open_at(tmp_path / "a.db") for _ in range(4)]

    async def write(engine: SqliteEngine, name: str) -> None:
        for number in range(200):
            await engine.store.commit(Commit((Put(f"{name}/{number}", b""),)))

    writing = [asyncio.create_task(write(e, str(i))) for i, e in enumerate(engines[1:])]
    given_up = asyncio.ensure_future(engines[0].store.commit(Commit((Put("given-up", b""),))))
    await asyncio.sleep(0)
    given_up.cancel()
    closing = [asyncio.create_task(engines[0].close()) for _ in range(2)]
    await asyncio.sleep(0)
    closing[0].cancel()
    with pytest.raises(Unavailable):
        await engines[0].store.commit(Commit((Put("late", b""),)))
    await closing[1]
    await asyncio.gather(*writing)
    assert len((await engines[2].store.scan("", limit=10_000)).entries) in {600, 601}
    assert sorted(map(str, roles(*engines[1:]))) == ["follower", "follower", "writer"]


async def test_a_follower_that_closes_hears_all_its_answers(tmp_path: Path, open_at: Open) -> None:
    leader, follower = await open_at(tmp_path / "a.db"), await open_at(tmp_path / "a.db")
    asked = [asyncio.ensure_future(follower.store.commit(Commit((Put(f"{n}", b""),)))) for n in range(1000)]
    await asyncio.sleep(0)
    asked[7].cancel()
    await follower.close()
    assert all(future.done() for future in asked)
    done = [future.result() for number, future in enumerate(asked) if number != 7]
    assert len(set(done)) == 999
    assert len((await leader.store.scan("", limit=10_000)).entries) >= 999
