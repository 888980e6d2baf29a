"""The writer goes, in every way: the others go on, and nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_process import Failure, Process, processes


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_the_others_go_on_when_the_writer_is_killed(tmp_path: Path) -> None:
    async with processes(tmp_path / "a.db", 3) as (leader, second, third):
        assert [await process.role() for process in (leader, second, third)] == [
            "writer",
            "follower",
            "follower",
        ]
        before = [await process.put(f"before-{index}", "") for index, process in enumerate((second, third))]
        writing = [process.begin("burst", f"{name}-", 500) for name, process in (("b", second), ("c", third))]
        await leader.kill()
        assert await asyncio.gather(*writing) == [500, 500]
        assert len(await second.ask("keys", "")) == 1002
        assert sorted([await second.role(), await third.role()]) == ["follower", "writer"]
        after = await third.put("after", "")
        assert after > max(before)
        assert await second.ask("get", "after") == ["", after]


async def test_a_writer_that_closes_hands_over_what_it_did(tmp_path: Path) -> None:
    async with processes(tmp_path / "a.db", 3) as (leader, second, third):
        writing = [
            process.begin("burst", f"{name}-", 300)
            for name, process in (("a", leader), ("b", second), ("c", third))
        ]
        await writing[0]
        assert await leader.close() == 0
        assert await asyncio.gather(*writing[1:]) == [300, 300]
        assert len(await third.ask("keys", "")) == 900
        assert await second.close() == 0
        await third.put("last", "")
        assert await third.role() == "writer"
        assert await third.close() == 0
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        assert database.execute("SELECT count(*) FROM kv").fetchone() == (901,)


async def test_a_child_of_a_dead_writer_does_not_keep_its_role(tmp_path: Path) -> None:
    """A forked child, of a process pool for instance, has handles of all that its parent had open."""
    async with processes(tmp_path / "a.db", 3) as (leader, second, third):
        child = await leader.ask("fork")
        try:
            leader.process.kill()
            await leader.process.wait()
            assert sorted([await second.put("a", ""), await third.put("b", "")]) == [1, 2]
            assert sorted([await second.role(), await third.role()]) == ["follower", "writer"]
        finally:
            os.kill(child, signal.SIGKILL)


async def test_the_log_of_a_new_writer_is_not_deleted_by_a_process_that_leaves(tmp_path: Path) -> None:
    """Each process must hold SQLite's locks on the file, also after it looked at it to take over."""
    async with processes(tmp_path / "a.db", 3) as (leader, second, third):
        await leader.kill()

        async def taken_over() -> bool:
            return "writer" in {await second.role(), await third.role()}

        await eventually(taken_over)
        writer, leaving = (second, third) if await second.role() == "writer" else (third, second)
        await writer.put("before", "")
        assert await leaving.close() == 0
        await writer.put("after", "")
        await writer.kill()
        async with processes(tmp_path / "a.db", 1) as (heir,):
            assert await heir.ask("keys", "") == ["after", "before"]


async def test_a_stopped_writer_leaves_outcomes_unknown_and_then_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    leader = await Process.start(path)
    follower = await Process.start(path, operation_timeout_s=0.5)
    try:
        await follower.put("key", "1")
        leader.stop()
        with pytest.raises(Failure) as caught:
            await follower.put("key", "2")
        assert (caught.value.code, caught.value.outcome) == ("unavailable", "unknown")
        assert "stopped?" in str(caught.value)
        assert (await follower.ask("get", "key"))[0] == "1", "reads need no writer"
        leader.resume()
        version = await follower.put("key", "3")
        assert await follower.ask("get", "key") == ["3", version]
        leader.stop()
        pending = follower.begin("put", "key", "4", {})
        await leader.kill()  # A stopped process dies all the same.
        assert (await follower.ask("get", "key"))[1] <= await pending
        assert await follower.role() == "writer"
    finally:
        await leader.kill()
        await follower.kill()


async def test_a_newcomer_reads_while_the_writer_is_stopped(tmp_path: Path) -> None:
    async with processes(tmp_path / "a.db", 1) as (leader,):
        await leader.put("key", "1")
        leader.stop()
        newcomer = await Process.start(tmp_path / "a.db", operation_timeout_s=0.5)
        try:
            assert (await newcomer.ask("get", "key"))[0] == "1"
            with pytest.raises(Failure) as caught:
                await newcomer.put("key", "2")
            assert caught.value.outcome == "unknown"
        finally:
            await newcomer.kill()


async def test_a_lease_ends_though_its_writer_died(tmp_path: Path) -> None:
    async with processes(tmp_path / "a.db", 3) as (leader, second, third):
        lease = await second.ask("grant", 0.5)
        await leader.put("mine", "", lease=lease)
        seen = third.watch("mine")
        assert [key for key, *_ in (await anext(seen))["changes"]] == ["mine"]
        await leader.kill()
        async with asyncio.timeout(30):
            while (await anext(seen))["changes"] not in ([], [["mine", None, 2]]):
                pass
        assert await second.ask("get", "mine") is None
        with pytest.raises(Failure) as caught:
            await second.put("late", "", lease=lease)
        assert caught.value.code == "lease_lost"


async def test_three_processes_share_the_writer(tmp_path: Path) -> None:
    async with processes(tmp_path / "a.db", 3) as three:
        added = await asyncio.gather(*(process.ask("add_until", "counter", 600) for process in three))
        assert sum(added) == 600
        assert (await three[1].ask("get", "counter"))[0] == "600"
        assert await asyncio.gather(*(p.ask("burst", f"{i}-", 400) for i, p in enumerate(three))) == [400] * 3
        assert len(await three[0].ask("keys", "")) == 1201
