"""What the store on SQLite promises beyond the port's contract, and where its bounds are."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path

import pytest
from sqlite_sample import ManualClock, blocked, opened, put, until, writer_of

from coterie.engines.common.feed import MAX_BUFFERED_CHANGES
from coterie.engines.sqlite import engine as engine_module
from coterie.errors import LeaseLost, Outcome, Overloaded, Unavailable
from coterie.ports.store import Change, Commit, Put

EDGES = ["\x01", "a", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010fffe", "\U0010ffff"]


async def test_prefixes_at_the_edges_of_unicode(tmp_path: Path) -> None:
    keys = ["".join(key) for length in (1, 2, 3) for key in product(EDGES, repeat=length)]
    async with opened(tmp_path / "a.db") as engine:
        for start in range(0, len(keys), 100):
            await engine.store.commit(Commit(tuple(Put(key, b"") for key in keys[start : start + 100])))
        afters = ["", "a", "\ud7ff", "\ue000\U0010ffff", "\U0010ffff", "\U0010ffff" * 3, "~"]
        for prefix in ["", *keys[:60], "\U0010ffff" * 3, "\U0010ffff" * 4, "b"]:
            for after in afters:
                expected = sorted(key for key in keys if key.startswith(prefix) and key > after)
                page = await engine.store.scan(prefix, after=after, limit=1000)
                assert [entry.key for entry in page.entries] == expected, (prefix, after)
            first = await engine.store.scan(prefix, limit=1)
            assert first.more == (len([key for key in keys if key.startswith(prefix)]) > 1)


async def test_a_lease_outlives_a_reboot_by_its_full_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    boot = "first"
    monkeypatch.setattr(engine_module, "boot_id", lambda: boot)
    clock = ManualClock(now=100_000.0)
    async with opened(path, clock=clock) as engine:
        lease, other = await engine.store.grant(50), await engine.store.grant(10)
        await put(engine, "key", lease=lease)
        clock.now += 40
    async with opened(path, clock=clock) as engine:
        with pytest.raises(LeaseLost):
            await engine.store.renew(other)
        clock.now += 9.9
        await put(engine, "key", lease=lease)
    boot, clock.now = "second", 3.0
    async with opened(path, clock=clock):
        pass  # What it found out is in the file.
    async with opened(path, clock=clock) as engine:
        clock.now += 49.9
        await put(engine, "key", lease=lease)
        assert await engine.store.get("key") is not None
        clock.now += 0.2
        with pytest.raises(LeaseLost):
            await put(engine, "key", lease=lease)
        with pytest.raises(LeaseLost):
            await engine.store.renew(lease)


async def test_a_lease_ends_though_the_first_try_to_end_it_failed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as engine, engine.store.watch("key") as watch:
        await put(engine, "key", lease=await engine.store.grant(0.3))
        assert (await anext(watch)).changes
        writer = writer_of(engine)
        writer._connection.execute("PRAGMA busy_timeout = 0")
        batches = writer.batches
        with blocked(path):
            await until(lambda: writer.batches > batches)
        async with asyncio.timeout(20):
            assert (await anext(watch)).changes == (Change("key", None, 2),)


@pytest.mark.parametrize("role", ["writer", "follower"])
async def test_a_watch_that_falls_behind_gets_a_new_snapshot(tmp_path: Path, role: str) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as leader, opened(path) as follower:
        watching = leader if role == "writer" else follower
        async with watching.store.watch("key") as watch:
            assert (await anext(watch)).snapshot
            for number in range(MAX_BUFFERED_CHANGES + 1):
                writing = put(leader, "key", b"%d" % number)
            last = await writing
            await put(watching, "other")  # Behind the news, on the same connection.
            async with asyncio.timeout(20):
                batch = await anext(watch)
                while batch.revision < last:
                    batch = await anext(watch)
            assert batch.snapshot
            assert batch.changes == (Change("key", b"%d" % MAX_BUFFERED_CHANGES, last),)
            version = await put(follower, "key", b"after")
            batch = await anext(watch)
            assert (batch.snapshot, batch.changes) == (False, (Change("key", b"after", version),))


async def test_more_operations_than_may_wait_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path, max_queue=3) as leader, opened(path, max_queue=5) as follower:
        with blocked(path):
            writing = [put(leader, "first")]
            await until(lambda: writer_of(leader)._busy)
            writing += [put(leader, f"leader-{number}") for number in range(4)]
            await until(writing[-1].done)
            assert [task.done() for task in writing] == [False] * 4 + [True]
            remote = [put(follower, f"follower-{number}") for number in range(6)]
            await until(lambda: all(task.done() for task in remote))
        results = await asyncio.gather(*writing, *remote, return_exceptions=True)
        refused = [error for error in results if isinstance(error, Overloaded)]
        assert len(refused) == 1 + 6, "the writer's own queue is full for the others, too"
        assert {error.outcome for error in refused} == {Outcome.NOT_APPLIED}
        assert len((await leader.store.scan("")).entries) == 4
        assert await put(follower, "after") == 5


async def test_a_follower_bounds_what_it_asks(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as leader, opened(path, max_queue=5, max_unanswered=2) as follower:
        with blocked(path):
            writing = [put(follower, f"{number}") for number in range(6)]
            await until(writing[-1].done)
            assert isinstance(writing.pop().exception(), Overloaded)
            await until(lambda: leader._leader is not None and writer_of(leader)._busy)
            assert len(follower._in_flight) == 2
        assert sorted(await asyncio.gather(*writing)) == [1, 2, 3, 4, 5]
        assert not follower._in_flight


async def test_a_writer_that_is_held_up_leaves_followers_with_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as leader, opened(path, max_unanswered=1) as follower:
        with blocked(path):
            sent, unsent, young = (put(follower, key) for key in ("sent", "unsent", "young"))
            await until(lambda: len(follower._asked) == 3)
            for asked in list(follower._asked.values())[:2]:
                asked.since -= 1000
            for task, outcome in ((sent, Outcome.UNKNOWN), (unsent, Outcome.NOT_APPLIED)):
                with pytest.raises(Unavailable, match="gave no answer within") as caught:
                    await task
                assert caught.value.outcome is outcome
        assert await young > 0, "it takes the place of what was given up"
        assert await leader.store.get("sent") is not None
        assert await leader.store.get("unsent") is None
        assert not follower._in_flight


async def test_statistics_say_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as leader, opened(path) as follower:
        await put(follower, "key")
        found = leader.statistics()
        assert (found["role"], found["processes"]) == ("writer", 2)
        assert follower.statistics()["role"] == "follower"
        assert int(found["file_bytes"]) > 0
        assert int(found["wal_bytes"]) > 0
    path.unlink()
    assert leader.statistics()["file_bytes"] == 0
