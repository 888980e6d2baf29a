"""A cluster within the test's process: routing, death of a node, draining, guarantees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from coterie import App, CoterieError, NotFound, Unavailable
from coterie.errors import AlreadyExists, InvalidConfiguration, NotRunning, Unsupported
from coterie.membership import MemberState
from coterie.node import Node, NodeConfig, connect
from coterie.ports import Durability
from coterie.testing import Cluster


class World:
    """An app whose services tell on which node they ran."""

    def __init__(self) -> None:
        self.app = app = App("world")
        self.counts = app.map("counts", int)
        self.release = asyncio.Event()
        self.entered: list[str] = []
        world = self

        class Where:
            async def __aenter__(self) -> Where:
                world.entered.append("in")
                return self

            async def __aexit__(self, *_: object) -> None:
                world.entered.append("out")

            async def here(self) -> str:
                from coterie.context import current

                return current().node

            async def wait(self) -> str:
                await world.release.wait()
                return await self.here()

            async def count(self, key: str) -> int:
                return await world.counts.update(key, lambda n: n + 1, default=0)

        app.service(Where)
        self.where: Any = app.client(Where)

    async def ports(self, cluster: Cluster, name: str) -> Any:
        return replace(cluster.nodes[0]._core.ports, wire=cluster.network.wire(name))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def cluster(world: World) -> AsyncIterator[Cluster]:
    async with Cluster(world.app, nodes=3) as cluster:
        yield cluster


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_handles_work_inside_the_cluster(world: World) -> None:
    async with Cluster(world.app, nodes=1):
        assert await world.where.count("a") == 1
        assert await world.counts.get("a") == 1
    assert world.entered == ["in", "out"]
    with pytest.raises(NotRunning):
        await world.counts.get("a")


async def test_a_caller_reaches_all_nodes(world: World, cluster: Cluster) -> None:
    async with connect(world.app, ports=await world.ports(cluster, "caller")) as connection:
        seen = {await world.where.here() for _ in range(60)}
        assert seen == {"world-1", "world-2", "world-3"}
        statuses = await connection.status()
        assert [status.member.name for status in statuses] == ["world-1", "world-2", "world-3"]
        assert sum(status.facts.calls for status in statuses if status.facts) >= 60


async def test_calls_go_on_when_a_node_dies(world: World, cluster: Cluster) -> None:
    async with connect(world.app, ports=await world.ports(cluster, "caller")):
        await world.where.here()
        dead = await cluster.kill(1)
        seen = {await world.where.here() for _ in range(40)}
        assert seen == {node.name for node in cluster.nodes}
        assert dead.name not in seen


async def test_a_call_on_a_node_that_dies_has_an_unknown_outcome(world: World, cluster: Cluster) -> None:
    async with connect(world.app, ports=await world.ports(cluster, "caller")):
        waiting = [asyncio.create_task(world.where.wait()) for _ in range(12)]
        await eventually(lambda: sum(node.pending for node in cluster.nodes) == 12)
        under_way = cluster.nodes[1].pending
        await cluster.kill(1)
        world.release.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    lost = [result for result in results if isinstance(result, Unavailable)]
    assert len(lost) == under_way > 0
    assert {error.outcome.value for error in lost} == {"unknown"}


async def test_handles_lead_to_a_node_that_lives(world: World, cluster: Cluster) -> None:
    assert await world.where.here() == "world-1"
    await asyncio.create_task(cluster.kill(0))  # Whatever task it is that kills.
    assert await world.where.here() == "world-2"
    async with world.app.lock("here"):
        await cluster.add()
        assert await world.where.here() == "world-2"
    await cluster.kill(1)
    await cluster.kill(0)
    assert await world.where.here() == "world-4"


async def test_a_cluster_that_does_not_start_leaves_nothing_behind() -> None:
    app, entered, left = App("fragile"), list[str](), list[str]()

    @app.service
    class Fragile:
        async def __aenter__(self) -> Fragile:
            entered.append("in")
            if len(entered) == 3:
                raise RuntimeError("the third one is too many")
            return self

        async def __aexit__(self, *_: object) -> None:
            left.append("out")

        async def work(self) -> None: ...

    client = app.client(Fragile)
    with pytest.raises(RuntimeError, match="the third one"):
        await Cluster(app, nodes=3).__aenter__()
    assert len(left) == 2
    with pytest.raises(NotRunning):
        await client.work()
    with pytest.raises(InvalidConfiguration, match="at least one node"):
        Cluster(app, nodes=0)


async def test_a_dead_node_leaves_every_view(world: World, cluster: Cluster) -> None:
    await cluster.kill(0)
    await eventually(lambda: all(node.facts().members == 2 for node in cluster.nodes))


async def test_a_draining_node_finishes_and_takes_nothing_new(world: World, cluster: Cluster) -> None:
    async with connect(world.app, ports=await world.ports(cluster, "caller")):
        waiting = [asyncio.create_task(world.where.wait()) for _ in range(12)]
        await eventually(lambda: sum(node.pending for node in cluster.nodes) == 12)
        leaving = cluster.nodes[1]
        draining = asyncio.create_task(leaving.drain(10))
        await eventually(leaving.ready)
        seen = {await world.where.here() for _ in range(30)}
        assert leaving.name not in seen
        world.release.set()
        assert await draining == 0
        answers = await asyncio.gather(*waiting)
    assert leaving.name in answers


async def test_what_does_not_end_in_time_is_counted(world: World, cluster: Cluster) -> None:
    async with connect(world.app, ports=await world.ports(cluster, "caller")):
        waiting = [asyncio.create_task(world.where.wait()) for _ in range(12)]
        await eventually(lambda: sum(node.pending for node in cluster.nodes) == 12)
        leaving = cluster.nodes.pop(1)
        under_way = leaving.pending
        assert await leaving.drain(0.05) == under_way > 0
        await leaving.close()
        world.release.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(result, CoterieError) for result in results) == under_way


class Stubborn:
    """A store that, when a node leaves, fails as no engine should, or gives no answer."""

    def __init__(self, store: Any, how: str) -> None:
        self.store = store
        self.how = how
        self.asked = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def revoke(self, _lease: int) -> None:
        self.asked.set()
        if self.how == "fails":
            raise RuntimeError("a bug of the engine")
        await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_node_that_cannot_leave_still_releases_everything(
    world: World, cluster: Cluster, how: str
) -> None:
    ports = await world.ports(cluster, "stubborn")
    store = Stubborn(ports.store, how)
    config = NodeConfig(name="stubborn", listen="memory:0", http="off")
    node = Node(world.app, config, ports=replace(ports, store=store))
    await asyncio.create_task(node.start())
    address, before = node.wire_address, len(world.entered)
    closing = asyncio.create_task(node.close())
    await store.asked.wait()
    if how == "hangs":
        closing.cancel()  # By who does not want to wait for the store.
    with pytest.raises(RuntimeError if how == "fails" else asyncio.CancelledError):
        await closing
    assert world.entered[before:] == ["out"]
    with pytest.raises(Unavailable, match="nobody listens"):
        await ports.wire.connect(address).request("Where.here", b"\x90", timeout_s=1)


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_caller_that_cannot_give_back_still_releases_everything(
    world: World, cluster: Cluster, how: str
) -> None:
    ports = await world.ports(cluster, "stubborn")
    store = Stubborn(ports.store, how)
    cores = []

    async def call() -> None:
        async with connect(world.app, ports=replace(ports, store=store)) as connection:
            cores.append(connection._core)
            async with world.app.lock("one"):  # Only who has held something has something to give back.
                pass
            assert await world.where.here()

    calling = asyncio.create_task(call())
    await store.asked.wait()
    if how == "hangs":
        calling.cancel()
    with pytest.raises(RuntimeError if how == "fails" else asyncio.CancelledError):
        await calling
    assert not cores[0].membership.fresh
    assert not cores[0].channels._channels


async def test_the_others_know_that_a_node_drains_while_its_leader_still_ends(world: World) -> None:
    leads, may_end = asyncio.Event(), asyncio.Event()

    @world.app.leader("boss")
    async def lead(_lease: Any) -> None:
        leads.set()
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    async with Cluster(world.app, nodes=1) as cluster:
        await leads.wait()
        leaving = cluster.nodes[0]
        other = await cluster.add()
        draining = asyncio.create_task(leaving.drain(30))
        seen = other._core.membership.view.members
        await eventually(lambda: seen[leaving.id].state is MemberState.DRAINING)
        may_end.set()
        assert await draining == 0


async def test_a_name_is_taken_once(world: World, cluster: Cluster) -> None:
    ports = await world.ports(cluster, "double")
    config = NodeConfig(name="world-2", listen="memory:0", http="off")
    with pytest.raises(AlreadyExists, match="'world-2' runs already"):
        await Node(world.app, config, ports=ports).start()
    assert await world.where.here()


async def test_a_dead_double_is_replaced_at_once(world: World, cluster: Cluster) -> None:
    await cluster.kill(1)
    ports = await world.ports(cluster, "again")
    again = Node(world.app, NodeConfig(name="world-2", listen="memory:0", http="off"), ports=ports)
    await again.start()
    names = [member.name for member in again._core.membership.view.members.values()]
    assert names.count("world-2") <= 1
    await again.close()


async def test_an_app_that_needs_more_than_the_engine_gives_does_not_start() -> None:
    app = App("strict")
    app.map("ledger", int, durability=Durability.POWER_LOSS)
    with pytest.raises(Unsupported, match="ledger"):
        async with Cluster(app, nodes=1):
            pass


async def test_nobody_to_call_is_said(world: World, cluster: Cluster) -> None:
    class Elsewhere:
        async def anything(self) -> None: ...

    client = world.app.client(Elsewhere)
    async with connect(world.app, ports=await world.ports(cluster, "caller")):
        with pytest.raises(Unavailable, match="no live node offers the service Elsewhere"):
            await client.anything()


async def test_a_node_that_lacks_a_method_says_which_it_has(world: World, cluster: Cluster) -> None:
    class Where:
        async def heer(self) -> str: ...

    newer = App("world")
    newer.service(Where)
    client = newer.client(Where)
    async with connect(newer, ports=await world.ports(cluster, "caller")):
        with pytest.raises(NotFound, match=r"did you mean Where\.here"):
            await client.heer()
