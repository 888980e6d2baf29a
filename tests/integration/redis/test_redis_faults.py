"""A server that dies, stops, is cut off or demoted: nothing acknowledged is lost, and no outcome is a lie."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from redis_kit import Writers, eventually, follow, open_redis, raw

from coterie import lab
from coterie.errors import InvalidConfiguration, NotFound, Outcome, Unavailable
from coterie.ports.guarantees import Durability
from coterie.ports.log import Record
from coterie.ports.store import Commit, Put, Store


@pytest.mark.parametrize("engine", ["valkey", "redis"])
async def test_nothing_acknowledged_is_lost_by_a_kill(engine: str) -> None:
    async with lab.start(engine) as cluster, open_redis(cluster.url) as client:
        writers = Writers(client.store)
        state: dict[str, bytes] = {}
        async with aclosing(client.store.watch("a/")) as watch:
            await anext(watch)
            async with writers.at_work():
                for _ in range(3):
                    await writers.more(100)
                    await cluster.kill(0)
                    await cluster.restart(0)
                await writers.more(100)
            await writers.check(client.store)
            await client.store.commit(Commit((Put("a/end", b""),)))
            await follow(watch, state, "a/end")
            page = await client.store.scan("a/", limit=10_000)
            assert state.keys() == {entry.key for entry in page.entries}
        assert client.link.reconnects >= 3


async def test_records_and_leases_outlive_a_kill() -> None:
    async with lab.start("valkey") as cluster, open_redis(cluster.url, operation_timeout_s=1.0) as client:
        await client.log.create("topic", 1)
        last = await client.log.append("topic", 0, [Record(b"%d" % index) for index in range(100)])
        lease = await client.store.grant(60)
        await client.store.commit(Commit((Put("leased", b"", lease),)))
        waiting = asyncio.create_task(client.log.wait("topic", 0, last + 1))
        await asyncio.sleep(0.05)
        await cluster.kill(0)
        with pytest.raises(Unavailable):
            await client.store.get("leased")
        await cluster.restart(0)
        await eventually(lambda: client.link.reconnects > 0)
        assert (await client.log.bounds("topic", 0)).next == last + 1
        await client.store.renew(lease)
        assert await client.store.get("leased") is not None
        assert await client.log.append("topic", 0, [Record(b"more")]) == last + 1
        await asyncio.wait_for(waiting, 20)


async def test_a_server_that_stops_leaves_outcomes_unknown() -> None:
    async with lab.start("valkey") as cluster, open_redis(cluster.url, operation_timeout_s=0.5) as client:
        await client.store.commit(Commit((Put("before", b""),)))
        await cluster.pause(0)
        with pytest.raises(Unavailable) as sent:
            await client.store.commit(Commit((Put("sent", b""),)))
        assert sent.value.outcome is Outcome.UNKNOWN
        # By now there is no connection that it could be sent on.
        with pytest.raises(Unavailable) as kept:
            await client.store.commit(Commit((Put("kept", b""),)))
        assert kept.value.outcome is Outcome.NOT_APPLIED
        await cluster.resume(0)
        await eventually(lambda: client.link.reconnects > 0)
        assert await client.store.get("before") is not None
        assert await client.store.get("kept") is None


async def test_a_watch_goes_on_after_a_cut_without_a_gap() -> None:
    async with (
        lab.start("valkey") as cluster,
        open_redis(cluster.url) as client,
        open_redis(cluster.url) as other,
    ):
        state: dict[str, bytes] = {}
        async with aclosing(client.store.watch("")) as watch:
            await anext(watch)
            for round_ in range(5):
                await raw(cluster, "CLIENT", "KILL", "TYPE", "normal")
                for index in range(20):
                    await _commit_in_the_end(other.store, f"{round_}/{index}")
                batches = await follow(watch, state, f"{round_}/19")
                assert not any(batch.snapshot for batch in batches), "it could have gone on"
            assert len(state) == 100


async def test_a_watch_that_missed_too_much_begins_anew() -> None:
    async with lab.start("valkey") as cluster, open_redis(cluster.url) as client:
        state: dict[str, bytes] = {}
        async with aclosing(client.store.watch("")) as watch:
            await anext(watch)
            revision = await client.store.commit(Commit((Put("first", b""),)))
            await raw(cluster, "EVAL", _TRIM_AND_MOVE_ON, 0, client.prefix, revision)
            await client.store.commit(Commit((Put("end", b""),)))
            batches = await follow(watch, state, "end")
            assert any(batch.snapshot for batch in batches)
            assert set(state) == {"first", "end", "unseen"}


_TRIM_AND_MOVE_ON = """
redis.call('SET', ARGV[1]..'rev', ARGV[2] + 1)
redis.call('HSET', ARGV[1]..'kv', 'unseen', (ARGV[2] + 1)..' 0 ')
redis.call('ZADD', ARGV[1]..'keys', 0, 'unseen')
redis.call('XADD', ARGV[1]..'changes', (ARGV[2] + 1)..'-0', 'punseen', '')
redis.call('XTRIM', ARGV[1]..'changes', 'MAXLEN', 0)
"""


async def test_a_commit_too_large_to_keep_reaches_watches_as_a_snapshot() -> None:
    async with lab.start("valkey") as cluster, open_redis(cluster.url) as client:
        state: dict[str, bytes] = {}
        async with aclosing(client.store.watch("")) as watch:
            await anext(watch)
            await client.store.commit(Commit((Put("large", b"x" * 500_000),)))
            [batch] = await follow(watch, state, "large")
            assert batch.snapshot
            await client.store.commit(Commit((Put("end", b""),)))
            [batch] = await follow(watch, state, "end")
            assert not batch.snapshot


async def test_a_server_that_forgets_the_scripts_is_told_again() -> None:
    async with lab.start("valkey") as cluster, open_redis(cluster.url) as client:
        await client.store.commit(Commit((Put("key", b"1"),)))
        await raw(cluster, "SCRIPT", "FLUSH")
        await client.store.commit(Commit((Put("key", b"2"),)))
        entry = await client.store.get("key")
        assert entry is not None
        assert entry.value == b"2"


async def test_promoting_a_replica_loses_acknowledged_writes_and_the_guarantees_say_so() -> None:
    async with lab.start("valkey", members=3, network="proxy") as cluster:
        async with open_redis(cluster.urls[0]) as client:
            assert client.store.guarantees.durability < Durability.MACHINE_LOSS
            assert any("promoting" in note for note in client.store.guarantees.notes)
            await client.store.commit(Commit((Put("early", b""),)))
            await _replicated(cluster)
            await cluster.partition({0}, {1, 2})
            await client.store.commit(Commit((Put("late", b""),)))  # acknowledged by the primary alone
            await cluster.kill(0)
        # Before the heal: what was kept back on its way would be delivered by it.
        await cluster.promote(1)
        await cluster.heal()
        async with open_redis(cluster.urls[1]) as client:
            assert await client.store.get("early") is not None
            assert await client.store.get("late") is None


async def test_a_primary_that_is_demoted_answers_nothing() -> None:
    async with (
        lab.start("valkey", members=3) as cluster,
        open_redis(cluster.urls[0], operation_timeout_s=1.0) as client,
    ):
        await client.log.create("topic", 1)
        await client.store.commit(Commit((Put("key", b"1"),)))
        await raw(cluster, "REPLICAOF", "127.0.0.1", cluster.addresses[1].port)
        for attempt in (client.store.get("key"), client.log.read("topic", 0, 0)):
            with pytest.raises(Unavailable):  # it would be a stale read
                await attempt
        with pytest.raises(Unavailable, match="replica"):
            async with open_redis(cluster.urls[2]):
                pass
        await raw(cluster, "REPLICAOF", "NO", "ONE")
        await eventually(lambda: client.link.reconnects > 0)
        await client.store.get("key")


async def test_settings_that_become_weaker_end_the_promise() -> None:
    async with lab.start("valkey") as cluster, open_redis(cluster.url, operation_timeout_s=0.5) as client:
        assert client.store.guarantees.durability is Durability.POWER_LOSS
        await raw(cluster, "CONFIG", "SET", "appendfsync", "no")
        await raw(cluster, "CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0)
        with pytest.raises((Unavailable, InvalidConfiguration)):
            await _commit_until_it_fails(client.store)
        await raw(cluster, "CONFIG", "SET", "appendfsync", "always")
        await eventually(lambda: client.link.reconnects > 0)
        await client.store.get("key")


async def test_a_topic_made_anew_ends_those_who_waited_for_the_old() -> None:
    async with (
        lab.start("valkey") as cluster,
        open_redis(cluster.url) as client,
        open_redis(cluster.url) as other,
    ):
        await client.log.create("topic", 1)
        waiting = asyncio.create_task(client.log.wait("topic", 0, 0))
        await asyncio.sleep(0.05)
        await asyncio.gather(other.log.delete("topic"), other.log.create("topic", 1))
        with pytest.raises(NotFound):
            await asyncio.wait_for(waiting, 20)


async def _commit_in_the_end(store: Store, key: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await store.commit(Commit((Put(key, b""),)))
            except Unavailable:
                await asyncio.sleep(0.01)
            else:
                return


async def _commit_until_it_fails(store: Store) -> None:
    async with asyncio.timeout(20):
        while True:
            await store.commit(Commit((Put("key", b""),)))


async def _replicated(cluster: lab.Cluster) -> None:
    assert await raw(cluster, "WAIT", 2, 10_000) == 2
