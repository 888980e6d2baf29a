"""Nodes that join and leave: by hand, and as faults."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter

from coterie.simulation import Members, World, run

DRAIN_S = 0.5


class Cluster:
    """Counts what its nodes do. A node drains for a while when it gets SIGTERM."""

    def __init__(self, drain_s: float = DRAIN_S) -> None:
        self.drain_s = drain_s
        self.begun: Counter[str] = Counter()
        self.drained: Counter[str] = Counter()

    async def node(self) -> None:
        name = socket.gethostname()
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        self.begun[name] += 1
        await stopping.wait()
        await asyncio.sleep(self.drain_s)
        self.drained[name] += 1


async def begin(world: World, cluster: Cluster, count: int = 3) -> Members:
    world.members = Members(world, count, cluster.node)
    await world.members.start()
    return world.members


def test_a_node_joins_on_a_machine_that_was_never_there_and_leaves_for_good() -> None:
    async def main(world: World) -> None:
        cluster = Cluster()
        members = await begin(world, cluster)
        assert [members.join(), members.join()] == ["node-4", "node-5"]
        assert members.present == ["node-1", "node-2", "node-3", "node-4", "node-5"]
        await asyncio.sleep(0.1)
        members.leave("node-4", for_good=True)
        assert members.present == ["node-1", "node-2", "node-3", "node-5"]
        await asyncio.sleep(DRAIN_S + 0.1)
        assert cluster.drained == {"node-4": 1}
        world.revive("node-4")  # As a fault does that killed it in the meantime.
        await asyncio.sleep(0.1)
        assert not world.host("node-4").running
        assert members.join() == "node-6"

    run(main)


def test_a_node_leaves_as_it_is_told_to_and_joins_again() -> None:
    async def main(world: World) -> None:
        cluster = Cluster()
        members = await begin(world, cluster)
        members.leave("node-2")
        await asyncio.sleep(DRAIN_S + 0.1)
        assert cluster.drained == {"node-2": 1}
        members.rejoin("node-2")
        await asyncio.sleep(0.1)
        assert cluster.begun["node-2"] == 2
        assert members.present == ["node-1", "node-2", "node-3"]

    run(main)


def test_a_node_that_does_not_come_to_an_end_is_killed_before_it_joins_again() -> None:
    async def main(world: World) -> None:
        cluster = Cluster(drain_s=1000.0)
        members = await begin(world, cluster)
        members.leave("node-2")
        await asyncio.sleep(10.0)
        members.rejoin("node-2")
        await asyncio.sleep(0.1)
        assert cluster.drained == {}
        assert cluster.begun["node-2"] == 2
        assert len(world.host("node-2").running) == 1

    run(main)


def test_in_a_storm_nodes_join_and_leave_and_in_the_end_all_is_as_before() -> None:
    said: set[str] = set()

    async def main(world: World) -> None:
        cluster = Cluster()
        members = await begin(world, cluster)
        async with world.storm(60.0, classes=["scale"], use_swarm=False, most=10) as storm:
            await asyncio.sleep(60.0)
        await asyncio.sleep(DRAIN_S + 0.1)
        assert members.present == ["node-1", "node-2", "node-3"]
        running = {name for name, host in world.hosts.items() if host.running}
        assert running == set(members.present)
        assert all(fired.kind == "scale" for fired in storm.fired)
        said.update(fired.what for fired in storm.fired)

    for seed in range(10):
        run(main, seed=seed)
    assert "node-4 joins, and leaves after it" in said
    assert "node-1 is told to leave, and joins again after it" in said


def test_other_faults_reach_those_that_joined_while_they_are_there() -> None:
    async def main(world: World) -> None:
        cluster = Cluster()
        members = await begin(world, cluster)
        assert members.reached(["node-1", "other"]) == ("node-1", "other")
        members.join()
        assert members.reached(["node-1", "other"]) == ("node-1", "other", "node-4")
        assert members.reached(["other"]) == ("other",)  # A storm that is none of the cluster's.
        members.leave("node-4", for_good=True)
        assert members.reached(["node-1"]) == ("node-1",)

    run(main)


def test_the_last_node_is_not_told_to_leave() -> None:
    async def main(world: World) -> None:
        members = await begin(world, Cluster(), 2)
        members.leave("node-2")
        async with world.storm(60.0, classes=["scale"], use_swarm=False, most=20):
            while world.time < 60.0:
                assert members.present
                await asyncio.sleep(0.1)

    for seed in range(10):
        run(main, seed=seed)


def test_hosts_that_are_no_cluster_neither_join_nor_leave() -> None:
    planned: list[int] = []

    async def main(world: World) -> None:
        await world.start("a", Cluster().node)
        async with world.storm(60.0, classes=["scale"], use_swarm=False, most=20) as storm:
            await asyncio.sleep(60.0)
        planned.append(len(storm.plan.faults))
        assert storm.fired == []
        assert list(world.hosts) == ["a"]

    for seed in range(5):
        run(main, seed=seed)
    assert any(planned)
