"""The stand-in keeps the contracts of the ports inside of a simulation, unless it is told to be weak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import pytest

from coterie.conformance import LogSuite, StoreSuite, WireSuite, run_check
from coterie.engines.system import SystemEntropy
from coterie.engines.tcp import TcpWire
from coterie.errors import Outcome, Unavailable
from coterie.ports import Log, Store, Wire
from coterie.ports.store import Commit, Put
from coterie.simulation import World, run
from coterie.simulation.standin import StandIn, StandInClient, Weakness

names = count()


class Clients:
    """`StoreFixture` and `LogFixture` on one stand-in."""

    def __init__(self, engine: StandIn) -> None:
        self.engine = engine
        self.open: list[StandInClient] = [engine.open()]

    @property
    def store(self) -> Store:
        return self.open[0].store

    @property
    def log(self) -> Log:
        return self.open[0].log

    async def close(self) -> None:
        for client in self.open:
            await client.close()
        self.open.clear()


class Stores(Clients):
    async def connect(self) -> Store:
        self.open.append(self.engine.open())
        return self.open[-1].store

    async def reopen(self) -> Store:
        await self.close()
        return await self.connect()


class Logs(Clients):
    async def connect(self) -> Log:
        self.open.append(self.engine.open())
        return self.open[-1].log

    async def reopen(self) -> Log:
        await self.close()
        return await self.connect()


class Wires:
    """`WireFixture` on the simulated network, by way of the wire that real nodes use."""

    framed = True
    free_address = "127.0.0.1:0"

    def __init__(self) -> None:
        self.nodes: list[Wire] = [TcpWire(entropy=SystemEntropy())]

    @property
    def wire(self) -> Wire:
        return self.nodes[0]

    async def connect(self) -> Wire:
        self.nodes.append(TcpWire(entropy=SystemEntropy()))
        return self.nodes[-1]

    async def garble(self, address: str, data: bytes) -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        with suppress(ConnectionError):
            await writer.drain()
            writer.write_eof()
            await reader.read()
        writer.close()


def conform(check: Any, fixture: Any) -> bool:
    """Run one check on a host of a universe of its own."""
    kept: list[bool] = []

    async def main(world: World) -> None:
        @asynccontextmanager
        async def factory() -> AsyncIterator[Any]:
            made = await fixture(world)
            try:
                yield made
            finally:
                for each in [made] if isinstance(made, Clients) else made.nodes:
                    await each.close()

        async def tester() -> None:
            kept.append(await run_check(check, factory, timeout_s=600.0))

        await world.start("tester", tester)
        await world.wait("tester")

    run(main, seed=1)
    return kept[0]


@pytest.mark.parametrize("check", StoreSuite().checks(), ids=lambda check: check.name)
def test_the_store_conforms(check: Any) -> None:
    async def fixture(world: World) -> Stores:
        engine = StandIn(world, timeout_s=30.0)
        await engine.start()
        return Stores(engine)

    assert conform(check, fixture) is (check.name != "several_keys_are_refused")


@pytest.mark.parametrize("check", LogSuite().checks(), ids=lambda check: check.name)
def test_the_log_conforms(check: Any) -> None:
    async def fixture(world: World) -> Logs:
        engine = StandIn(world, timeout_s=30.0)
        await engine.start()
        return Logs(engine)

    assert conform(check, fixture)


@pytest.mark.parametrize("check", WireSuite().checks(), ids=lambda check: check.name)
def test_the_real_wire_conforms_on_the_simulated_network(check: Any) -> None:
    async def fixture(world: World) -> Wires:
        return Wires()

    assert conform(check, fixture)


def on_a_host(body: Any, *, seed: int = 1, **options: Any) -> Any:
    """Run `body(world, engine, client)` on the host `a`."""
    results: list[Any] = []

    async def main(world: World) -> None:
        engine = StandIn(world, **options)
        await engine.start()

        async def host() -> None:
            results.append(await body(world, engine, engine.open()))

        await world.start("a", host)
        await world.wait("a")

    run(main, seed=seed)
    return results[0]


def put(key: str, value: bytes) -> Commit:
    return Commit((Put(key, value),))


def test_a_partition_leaves_the_outcome_of_a_write_unknown_and_heals() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> None:
        await client.store.commit(put("k", b"1"))
        world.partition({"a"}, {"engine"})
        with pytest.raises(Unavailable) as caught:
            await client.store.commit(put("k", b"2"))
        assert caught.value.outcome is Outcome.UNKNOWN
        with pytest.raises(Unavailable) as caught:
            await client.store.get("k")
        assert caught.value.outcome is Outcome.NOT_APPLIED
        world.heal()
        entry = await client.store.get("k")
        assert entry is not None
        assert entry.value == b"1"

    on_a_host(body)


def test_a_write_whose_answer_is_cut_off_was_applied() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> None:
        world.block({"engine"}, {"a"})
        with pytest.raises(Unavailable):
            await client.store.commit(put("k", b"1"))
        world.heal()
        entry = await client.store.get("k")
        assert entry is not None

    on_a_host(body)


def test_what_was_acknowledged_outlives_a_crash_of_the_engine() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> None:
        await client.store.commit(put("k", b"1"))
        lease = await client.store.grant(1.0)
        await client.store.commit(Commit((Put("leased", b"", lease),)))
        world.crash("engine")
        with pytest.raises(Unavailable):
            await client.store.get("k")
        world.restart("engine")
        await asyncio.sleep(0.5)
        entry = await client.store.get("k")
        assert entry is not None
        assert await client.store.get("leased") is None

    on_a_host(body)


def test_a_watch_ends_when_the_engine_forgets_it() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> None:
        watch = client.store.watch("")
        assert (await anext(watch)).snapshot
        await client.store.commit(put("k", b"1"))
        assert (await anext(watch)).changes[0].key == "k"
        world.restart("engine")
        with pytest.raises(Unavailable):
            await anext(watch)
        async with client.store.watch("") as again:
            assert [change.key for change in (await anext(again)).changes] == ["k"]

    on_a_host(body)


def test_without_a_leader_there_is_no_answer() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> None:
        writing = asyncio.create_task(client.store.commit(put("k", b"1")))
        await asyncio.sleep(0)
        engine.lose_leader(5.0)
        with pytest.raises(Unavailable) as caught:
            await writing
        assert caught.value.outcome is Outcome.UNKNOWN
        await asyncio.sleep(5)
        assert await client.store.get("k") is None

    on_a_host(body)


def test_a_write_that_was_applied_by_a_leader_that_is_lost_is_not_answered() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> None:
        store: Any = engine.memory.store
        commit = store.commit

        async def commit_and_fall(change: Commit) -> int:
            revision: int = await commit(change)
            engine.lose_leader(1.0)
            return revision

        store.commit = commit_and_fall
        with pytest.raises(Unavailable) as caught:
            await client.store.commit(put("k", b"1"))
        store.commit = commit
        assert caught.value.outcome is Outcome.UNKNOWN
        assert await client.store.get("k") is not None

    on_a_host(body)


def test_a_strong_engine_reads_what_was_written_and_a_stale_one_does_not() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> list[bytes | None]:
        seen: list[bytes | None] = []
        await client.store.commit(put("k", b"old"))
        await asyncio.sleep(5)
        await client.store.commit(put("k", b"new"))
        for _ in range(2):
            entry = await client.store.get("k")
            seen.append(entry.value if entry else None)
            await asyncio.sleep(5)
        return seen

    assert on_a_host(body) == [b"new", b"new"]
    assert on_a_host(body, weak={Weakness.STALE_READS}) == [b"old", b"new"]


def test_a_weak_engine_loses_its_newest_writes_with_the_leader() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> dict[str, bytes]:
        await client.store.commit(put("early", b"1"))
        await client.store.commit(put("changed", b"1"))
        await asyncio.sleep(5)
        await client.store.commit(put("changed", b"2"))
        await client.store.commit(put("late", b"1"))
        lease = await client.store.grant(60)
        await client.store.commit(Commit((Put("leased", b"1", lease),)))
        engine.lose_leader(1.0)
        await asyncio.sleep(2)
        return {entry.key: entry.value for entry in (await client.store.scan("")).entries}

    strong = {"early": b"1", "changed": b"2", "late": b"1", "leased": b"1"}
    assert on_a_host(body) == strong
    weak = {"early": b"1", "changed": b"1", "leased": b"1"}
    assert on_a_host(body, weak={Weakness.LOST_WRITES}) == weak


def test_a_client_that_repeats_applies_a_write_twice() -> None:
    async def body(world: World, engine: StandIn, client: StandInClient) -> int:
        engine._losing = (world.tape.stream("losing"), 0.9)
        revisions = []
        for number in range(20):
            with suppress(Unavailable):
                revisions.append(await client.store.commit(put("k", b"%d" % number)))
        engine._losing = None
        return await client.store.commit(put("k", b"last")) - 21

    assert on_a_host(body) == 0
    assert on_a_host(body, weak={"repeated-writes"}) > 0
