"""The server goes, or the way to it: nothing acknowledged is lost, and no outcome is untrue."""

from __future__ import annotations

import asyncio

import pytest
from postgres_tools import QUICK, back_door, create, engine_at, eventually

from coterie import lab
from coterie.engines.postgres import schema
from coterie.errors import Conflict, Outcome, Unavailable
from coterie.ports import Durability
from coterie.ports.log import Record
from coterie.ports.store import Commit, Put

_COUNT = 400


@pytest.mark.slow
async def test_a_kill_in_the_middle_of_writes_loses_nothing_and_repeats_nothing() -> None:
    async with lab.start("postgres", settings=QUICK) as cluster, engine_at(cluster.url) as engine:
        store, log = engine.store, engine.log
        await log.create("topic", 1)
        revisions: dict[str, int] = {}
        offsets: dict[int, bytes] = {}
        some = asyncio.Event()

        async def write(who: int) -> None:
            for number in range(_COUNT // 8):
                key = f"{who}-{number:03}"
                revisions[key] = await store.commit(create(key))
                offsets[await log.append("topic", 0, [Record(key.encode())])] = key.encode()
                if len(offsets) > 40:
                    some.set()

        writers = asyncio.gather(*(write(who) for who in range(8)))
        async with store.watch("") as watch:
            seen = {change.key for change in (await anext(watch)).changes}
            await some.wait()
            await cluster.kill(0)
            await cluster.restart(0)
            await writers  # Each commit was sent again until its outcome was known, and was applied once.
            while len(seen) < _COUNT:
                seen |= {change.key for change in (await anext(watch)).changes}
        page = await store.scan("", limit=10_000)
        assert {entry.key: entry.version for entry in page.entries} == revisions
        assert len(set(revisions.values())) == _COUNT
        read = await log.read("topic", 0, 0, limit=10_000)
        assert {stored.offset: stored.record.value for stored in read.records} == offsets
        assert sorted(offsets) == list(range(_COUNT))


async def lose_the_answer_of_a_commit(cluster: lab.Cluster, url: str) -> None:
    """Have a commit applied whose answer never arrives, and let it be sent again."""
    async with engine_at(url) as engine, back_door(cluster) as direct:
        await engine.store.commit(create("before"))
        await cluster.shape(0, "client", cut=True, both=False)
        committing = asyncio.create_task(engine.store.commit(create("key")))

        async def applied() -> bool:
            return bool(await direct.fetchval("SELECT count(*) FROM coterie.kv WHERE key = 'key'"))

        await eventually(applied)
        await cluster.reset()
        await cluster.heal()
        entry_version = await committing
        entry = await engine.store.get("key")
        assert entry is not None
        assert entry.version == entry_version
        await engine.store.commit(create("after"))


async def test_a_commit_whose_answer_is_lost_is_applied_once() -> None:
    async with lab.start("postgres", network="proxy") as cluster:
        await lose_the_answer_of_a_commit(cluster, cluster.url)


async def test_without_the_number_of_its_batch_it_would_be_applied_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schema, "SCHEMA", schema.SCHEMA.replace("AND batch < p_batch", ""))
    async with lab.start("postgres", network="proxy") as cluster:
        with pytest.raises(Conflict):
            await lose_the_answer_of_a_commit(cluster, cluster.url)


async def test_what_was_sent_and_not_answered_is_unknown_and_the_rest_is_not_applied() -> None:
    async with lab.start("postgres") as cluster, engine_at(cluster.url, timeout_s=1.5) as engine:
        store = engine.store
        await store.commit(Commit((Put("key", b"1"),)))
        async with store.watch("") as watch:
            await anext(watch)
            await cluster.pause(0)
            sent = asyncio.create_task(store.commit(create("sent")))
            await asyncio.sleep(0)  # The batch is on its way when the second commit comes.
            queued = asyncio.create_task(store.commit(create("queued")))
            reading = asyncio.create_task(store.get("key"))
            errors = await asyncio.gather(sent, queued, reading, return_exceptions=True)
            assert [type(error) for error in errors] == [Unavailable] * 3
            assert sent.exception().outcome is Outcome.UNKNOWN  # type: ignore[union-attr]
            assert queued.exception().outcome is Outcome.NOT_APPLIED  # type: ignore[union-attr]
            await cluster.resume(0)
            revision = await store.commit(Commit((Put("key", b"2"),)))
            while (await anext(watch)).revision < revision:
                pass
        assert await store.get("queued") is None


@pytest.mark.slow
async def test_commits_are_on_the_disk_though_the_server_would_not_wait_for_it() -> None:
    lazy = {"synchronous_commit": "off", "wal_writer_delay": "10000ms", **QUICK}
    async with lab.start("postgres", settings=lazy) as cluster, engine_at(cluster.url) as engine:
        assert engine.store.guarantees.durability is Durability.POWER_LOSS
        await engine.log.create("topic", 1)
        revision = await engine.store.commit(create("key"))
        await engine.log.append("topic", 0, [Record(b"kept")])
        await cluster.kill(0)  # What the log of the server had in memory only is gone.
        await cluster.restart(0)
        entry = await engine.store.get("key")
        assert entry is not None
        assert entry.version == revision
        assert [stored.record.value for stored in (await engine.log.read("topic", 0, 0)).records] == [b"kept"]


@pytest.mark.slow
async def test_leases_go_on_over_a_restart_and_end_in_their_time() -> None:
    async with lab.start("postgres", settings=QUICK) as cluster, engine_at(cluster.url) as engine:
        store = engine.store
        long = await store.grant(60)
        short = await store.grant(0.5)
        await store.commit(Commit((Put("long", b"", long), Put("short", b"", short))))
        async with store.watch("") as watch:
            await anext(watch)
            await cluster.kill(0)
            await cluster.restart(0)
            batch = await anext(watch)
            assert [(change.key, change.value) for change in batch.changes] == [("short", None)]
        await store.renew(long)
        assert await store.get("long") is not None


async def test_a_closed_engine_leaves_nothing_behind_though_the_server_is_silent() -> None:
    async with lab.start("postgres", settings=QUICK) as cluster:
        before = asyncio.all_tasks()
        async with engine_at(cluster.url) as engine:
            await engine.log.create("topic", 1)
            await cluster.pause(0)
            # Some of it waits for an answer, the rest for a connection; half of the callers leave.
            asked = [
                asyncio.ensure_future(question)
                for number in range(6)
                for question in (
                    engine.store.get(f"key{number}"),
                    engine.store.scan(f"prefix{number}"),
                    engine.log.read("topic", 0, number),
                )
            ]
            await asyncio.sleep(0.1)
            for one in asked[::2]:
                one.cancel()
        assert asyncio.all_tasks() - before - set(asked) == set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Unavailable, asyncio.CancelledError}
        await cluster.resume(0)
