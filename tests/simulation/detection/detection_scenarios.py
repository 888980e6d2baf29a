"""Real nodes under faults: what is noticed before any lease ends, and what is not forgotten."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from coterie import App, CoterieError, deadline
from coterie.context import current
from coterie.node import Connection, NodeConfig, NodeStatus, connect
from coterie.node.core import Directory
from coterie.simulation import Violation, World
from coterie.simulation.nodes import open_ports, run_node
from coterie.simulation.standin import StandIn

NODES = ("a", "b", "c", "d")
app = App("watched")


@app.service
class Where:
    async def here(self) -> str:
        return current().node


where = app.client(Where)


@asynccontextmanager
async def calling(engine: StandIn) -> AsyncIterator[Connection]:
    async with open_ports(engine) as ports:
        config = NodeConfig(name=socket.gethostname(), http="off", cluster_key="the hosts of one universe")
        async with connect(app, config=config, ports=ports) as connection:
            yield connection


async def cluster(world: World, *, lease_s: float) -> StandIn:
    engine = StandIn(world)
    await engine.start()
    for name in NODES:
        await world.start(name, partial(run_node, lease_s=lease_s), engine, app)
    await asyncio.sleep(5)
    return engine


async def notices(world: World, fault: str) -> list[str]:
    """After 2.5 s nobody is bothered by a dead or frozen node whose lease lasts for an hour.

    The caller has made no call since, so that it has not learned of it by its own failures.
    """
    engine = await cluster(world, lease_s=3600)
    answered: list[str] = []

    async def caller() -> None:
        async with calling(engine):
            await where.here()
            world.kill("b") if fault == "kill" else world.pause("b", 60.0)
            await asyncio.sleep(2.5)
            for _ in range(40):
                try:
                    with deadline(0.5):
                        answered.append(await where.here())
                except CoterieError as error:
                    raise Violation(f"a call went to the node that is gone: {error}") from error

    await world.start("caller", caller)
    await world.wait("caller")
    world.check_processes()
    if "b" in answered or len(set(answered)) < 2:
        raise Violation(f"answered by {sorted(set(answered))}")
    return sorted(set(answered))


async def a_killed_node(world: World) -> list[str]:
    return await notices(world, "kill")


async def a_frozen_node(world: World) -> list[str]:
    return await notices(world, "pause")


async def a_frozen_node_that_nobody_avoids(world: World) -> list[str]:
    """The mutant: suspicion is not heeded."""
    Directory.suspect = lambda self, ids: None  # type: ignore[method-assign]
    return await notices(world, "pause")


async def statuses(world: World, engine: StandIn, name: str) -> list[NodeStatus]:
    """Return what all nodes say that answer, asked from a host of that name."""
    found: list[NodeStatus] = []

    async def ask() -> None:
        async with calling(engine) as connection:
            found.extend(await connection.status())

    await world.start(name, ask)
    await world.wait(name)
    world.check_processes()
    return found


async def cut_off_from_the_store(world: World) -> list[str]:
    """A node that does not reach the Store is no member any more, and the others still see that it lives."""
    engine = await cluster(world, lease_s=3.0)
    world.partition({"b"}, {engine.name})
    await asyncio.sleep(10)
    found = await statuses(world, engine, "asks")
    seen = []
    for status in found:
        if status.member.name == "b":
            raise Violation("b is a member still")
        if status.facts is not None and status.facts.gossip is not None:
            seen += [each.split()[0] for each in status.facts.gossip.strangers.values()]
            if status.facts.gossip.suspects:
                raise Violation(f"{status.member.name} suspects {status.facts.gossip.suspects}")
    if seen != ["b"] * 3:
        raise Violation(f"b is seen by {len(seen)} of 3")
    return seen


async def weather(world: World) -> int:
    """When the faults are over, everybody is a member, is seen by all, and is suspected by nobody."""
    engine = await cluster(world, lease_s=3.0)
    async with world.storm(40, hosts=[*NODES, engine.name]):
        await asyncio.sleep(40)
    for attempt in range(30):
        await asyncio.sleep(2)
        found = await statuses(world, engine, f"asks-{attempt}")
        gossip = [s.facts.gossip for s in found if s.facts is not None and s.facts.gossip is not None]
        names = {status.member.name for status in found}
        members = {status.member.id for status in found}
        calm = all(not members.intersection(each.suspects) for each in gossip)
        if names == set(NODES) and len(gossip) == len(found) == len(NODES) and calm:
            return attempt
    raise Violation(
        f"after a minute still: {[(s.member.name, s.error, s.facts and s.facts.gossip) for s in found]}"
    )
