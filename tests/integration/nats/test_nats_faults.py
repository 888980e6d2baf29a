"""Members die, stop or are cut off: nothing acknowledged is lost or applied twice, no outcome is a lie."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

import pytest
from nats.errors import OutboundBufferLimitError
from nats_kit import Writers, create, eventually, follow, in_order, open_nats, plain

from coterie import lab
from coterie.engines.nats import NatsConfig
from coterie.engines.nats.connection import Connection
from coterie.errors import Outcome, Unavailable
from coterie.ports.log import Record
from coterie.ports.store import Commit, Put

STORE = "coterie-store"
"""The stream of commits."""


@pytest.mark.slow
async def test_a_killed_leader_loses_nothing_and_watches_go_on() -> None:
    async with (
        lab.start("nats", members=3) as cluster,
        open_nats(in_order(cluster, 0)) as first,
        open_nats(in_order(cluster, 1)) as second,
        open_nats(in_order(cluster, 2)) as third,
    ):
        clients = [first.store, second.store, third.store]
        await first.log.create("topic", 1)
        writers = Writers(list(clients))
        state: dict[str, int] = {}
        async with aclosing(second.store.watch("a/")) as watch:
            await anext(watch)
            # All the while: one who does not read for long gets a snapshot.
            following = asyncio.create_task(follow(watch, state, "a/end"))
            async with writers.at_work():
                await writers.more(200)
                leader = await cluster.leader(of=STORE)
                await cluster.kill(leader)
                await writers.more(200)
                end = await first.log.append("topic", 0, [Record(b"1"), Record(b"2")])
                await cluster.restart(leader)
                await writers.more(100)
            for store in clients:
                await writers.check(store)
            await third.store.commit(create("end"))
            assert await following == 0, "it could have gone on"
        page = await first.store.scan("a/", limit=10_000)
        assert {entry.key: entry.version for entry in page.entries}.items() <= state.items()
        assert {f"a/{key}": version for key, version in writers.acknowledged.items()}.items() <= state.items()
        segment = await third.log.read("topic", 0, 0)
        assert [stored.record.value for stored in segment.records] == [b"1", b"2"]
        assert segment.next_offset == end + 1


@pytest.mark.slow
async def test_a_client_of_a_member_that_is_cut_off_goes_to_another() -> None:
    async with lab.start("nats", members=3, network="proxy") as cluster:
        async with open_nats(cluster.url) as engine:
            old = await cluster.leader(of=STORE)
        rest = {0, 1, 2} - {old}
        async with open_nats(in_order(cluster, old)) as engine, open_nats(in_order(cluster, *rest)) as other:
            await engine.store.commit(create("before"))
            writers = Writers([engine.store, other.store])
            async with writers.at_work():
                await writers.more(50)
                await cluster.partition({old}, rest)
                version = await other.store.commit(create("meanwhile"))
                # Linearizable, though the leader of before still thinks that it leads, and we are its client.
                entry = await engine.store.get("a/meanwhile")
                assert entry is not None
                assert entry.version == version
                await writers.more(50)
                await cluster.heal()
                await writers.more(50)
            await writers.check(engine.store)
            await writers.check(other.store)


async def test_nothing_is_lost_by_kills_of_the_only_member() -> None:
    async with lab.start("nats") as cluster, open_nats(cluster.url) as engine:
        writers = Writers([engine.store])
        async with writers.at_work():
            for _ in range(2):
                await writers.more(100)
                await cluster.kill(0)
                await cluster.restart(0)
            await writers.more(100)
        await writers.check(engine.store)
        async with open_nats(cluster.url) as other:
            await writers.check(other.store)


def test_a_connection_is_closed_while_its_server_is_gone() -> None:
    """On uvloop, which refuses to write to a connection that is lost; asyncio's own loop ignores it."""
    uvloop = pytest.importorskip("uvloop")

    async def body() -> None:
        async with lab.start("nats") as cluster:
            async with open_nats(cluster.url, operation_timeout_s=0.2) as engine:
                await cluster.kill(0)
                await eventually(lambda: not engine.link.client.is_connected)
                # The client library keeps what it cannot send, and sends it when it is closed.
                await engine.link.client.publish("nowhere", b"too late")
                subscriptions = list(engine.link.client._subs.values())
            assert subscriptions
            await eventually(lambda: all(sub._wait_for_msgs_task.done() for sub in subscriptions))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


async def test_a_connection_that_is_closed_while_it_is_made_anew_leaves_nothing_behind() -> None:
    async with lab.start("nats") as cluster:
        before = asyncio.all_tasks()
        for number in range(60):
            connection = Connection(NatsConfig.from_url(cluster.url))
            await connection.open()
            connection.client.hang_up()
            # The client rests for 50 ms before it connects.
            await asyncio.sleep(0.05 + number * 0.0001)
            await connection.close()
            assert asyncio.all_tasks() == before


async def test_every_wait_is_bounded_though_the_server_reads_nothing() -> None:
    async with lab.start("nats") as cluster:
        before = asyncio.all_tasks()
        async with open_nats(cluster.url, operation_timeout_s=2.0) as engine:
            await engine.log.create("topic", 32)
            await cluster.pause(0)
            # More than any buffer of the network, or of the client, has room for.
            appends = [engine.log.append("topic", part, [Record(bytes(500_000))]) for part in range(32)]
            async with asyncio.timeout(10):
                errors = await asyncio.gather(*appends, return_exceptions=True)
            assert {type(error) for error in errors} == {Unavailable}
            closing = asyncio.create_task(engine.close())
            await asyncio.wait([closing], timeout=10)
            assert closing.done()
        assert asyncio.all_tasks() - {closing} == before
        await cluster.resume(0)


async def test_a_client_of_a_member_that_reads_nothing_goes_to_another() -> None:
    async with lab.start("nats", members=3) as cluster:
        connection = Connection(NatsConfig.from_url(in_order(cluster, 0)))
        await connection.open()
        await cluster.pause(0)
        async with asyncio.timeout(30):
            while str(cluster.addresses[0]) in str(connection.client.connected_url):
                with suppress(OutboundBufferLimitError):  # it has noticed
                    await connection.client.publish("nowhere", bytes(1_000_000))
        await eventually(lambda: connection.client.is_connected)
        await connection.close()
        await cluster.resume(0)


async def test_a_server_that_stops_leaves_outcomes_unknown() -> None:
    async with lab.start("nats") as cluster, open_nats(cluster.url, operation_timeout_s=1.0) as engine:
        await engine.log.create("topic", 1)
        await engine.store.commit(create("before"))
        await cluster.pause(0)
        calls = (
            engine.store.commit(create("sent")),
            engine.log.append("topic", 0, [Record(b"sent")]),
        )
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, Unavailable)
            assert error.outcome is Outcome.UNKNOWN
        # Two pings without an answer, and there is no connection that anything could be sent on.
        await eventually(lambda: not engine.link.client.is_connected)
        calls = (
            engine.store.commit(create("kept")),
            engine.log.append("topic", 0, [Record(b"kept")]),
        )
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, Unavailable)
            assert error.outcome is Outcome.NOT_APPLIED
        with pytest.raises(Unavailable):
            await engine.store.get("a/before")
        with pytest.raises(Unavailable):
            await engine.log.read("topic", 0, 0)
        await cluster.resume(0)
        await eventually(lambda: engine.link.client.is_connected)
        assert await engine.store.get("a/before") is not None
        assert await engine.store.get("a/kept") is None
        segment = await engine.log.read("topic", 0, 0)
        assert b"kept" not in [stored.record.value for stored in segment.records]


async def test_a_commit_whose_answer_is_lost_is_applied_once() -> None:
    async with lab.start("nats", network="proxy") as cluster, open_nats(cluster.url) as engine:
        direct = cluster.engine.site.network.listening(cluster.members[0].name, "client")
        async with open_nats(f"nats://{direct}") as other:
            await engine.log.create("topic", 1)
            await cluster.shape(0, "client", cut=True, both=False)
            committing = asyncio.create_task(engine.store.commit(create("key")))
            appending = asyncio.create_task(engine.log.append("topic", 0, [Record(b"record")]))
            while await other.store.get("a/key") is None or not (await other.log.read("topic", 0, 0)).records:
                await asyncio.sleep(0.005)
            await cluster.heal()
            # Both were sent again, under the same number: a second commit would have been refused.
            entry = await other.store.get("a/key")
            assert entry is not None
            assert await committing == entry.version
            segment = await other.log.read("topic", 0, 0)
            assert [stored.offset for stored in segment.records] == [await appending]


async def test_a_watch_goes_on_after_cuts_without_a_gap() -> None:
    async with (
        lab.start("nats", network="proxy") as cluster,
        open_nats(cluster.url) as engine,
        open_nats(cluster.url) as other,
    ):
        state: dict[str, int] = {}
        async with aclosing(engine.store.watch("a/")) as watch:
            await anext(watch)
            for round_ in range(3):
                for index in range(20):
                    await other.store.commit(create(f"{round_}/{index}"))
                    if index == 10:
                        await cluster.reset()
                assert await follow(watch, state, f"a/{round_}/19") == 0, "it could have gone on"
        assert len(state) == 60


async def test_leases_outlive_a_kill_and_end_on_every_client() -> None:
    async with (
        lab.start("nats") as cluster,
        open_nats(cluster.url) as engine,
        open_nats(cluster.url) as other,
    ):
        short, long = await engine.store.grant(1.5), await engine.store.grant(60)
        await engine.store.commit(Commit((Put("short", b"", short), Put("long", b"", long))))
        async with aclosing(other.store.watch("")) as watch:
            await anext(watch)
            await cluster.kill(0)
            await cluster.restart(0)
            async with asyncio.timeout(20):
                [gone] = (await anext(watch)).changes
            assert (gone.key, gone.value) == ("short", None)
        assert await engine.store.get("short") is None
        await engine.store.renew(long)


async def test_an_image_takes_the_place_of_a_long_past() -> None:
    bounds = {"min_log_bytes": 100_000}
    async with lab.start("nats") as cluster, open_nats(cluster.url, **bounds) as engine:
        lease = await engine.store.grant(60)
        await engine.store.commit(Commit((Put("leased", b"", lease),)))
        async with open_nats(cluster.url, **bounds) as other, plain(cluster.url) as client:
            stream = client.jetstream()
            state: dict[str, int] = {}
            async with aclosing(other.store.watch("")) as watch:
                await anext(watch)
                for number in range(100):
                    await engine.store.commit(Commit((Put(f"key-{number % 7}", b"x" * 5000),)))
                await engine.store.commit(Commit((Put("end", b""),)))
                await follow(watch, state, "end")
            info = await stream.stream_info(STORE)
            assert info.state.first_seq > 50
            assert info.state.bytes < 300_000
            # Whoever missed what was replaced begins with the image; so does a new client.
            other.replica._consumer.position = 1
            await cluster.kill(0)
            await cluster.restart(0)
            await engine.store.commit(Commit((Put("late", b""),)))
            async with open_nats(cluster.url, **bounds) as third:
                pages = [await client.store.scan("", limit=100) for client in (engine, other, third)]
                assert pages[0].entries == pages[1].entries == pages[2].entries
                assert len(pages[0].entries) == 10
                await third.store.renew(lease)
