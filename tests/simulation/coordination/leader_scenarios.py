"""Nodes with an `@app.leader`, killed and paused: how soon another leads, and no token has two leaders."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from coterie import App
from coterie.context import current
from coterie.coordination import Lease
from coterie.simulation import Violation, World
from coterie.simulation.nodes import run_node
from coterie.simulation.standin import StandIn

NODES = ("a", "b", "c")
LEASE_S = 3.0


def an_app(world: World, terms: list[tuple[float, int, str]], acts: list[tuple[float, int]]) -> App:
    """Return an app whose leader acts every 50 ms, as long as it does not know that its lease is lost."""
    app = App("led")

    @app.leader("boss")
    async def lead(lease: Lease) -> None:
        terms.append((world.time, lease.token, current().node))
        while not lease.lost:
            acts.append((world.time, lease.token))
            await asyncio.sleep(0.05)

    return app


async def failover(world: World) -> dict[str, Any]:
    """Kill or pause the leader again and again, with nothing else amiss; return how long there was none."""
    terms: list[tuple[float, int, str]] = []
    acts: list[tuple[float, int]] = []
    engine = StandIn(world)
    await engine.start()
    app = an_app(world, terms, acts)
    for number, name in enumerate(NODES):
        await world.start(name, run_node, engine, app)
        world.clock(name, offset_s=random.uniform(-60, 60), drift_ppm=(500, -500, 0)[number])
    await _until(lambda: terms)
    gaps_s = []
    for _ in range(8):
        await asyncio.sleep(random.uniform(1.0, 6.0))
        known, (_, _, leader) = len(terms), terms[-1]
        gone_s = world.time
        if random.random() < 0.5:
            world.kill(leader)
        else:
            world.pause(leader, 3 * LEASE_S)
        await _until(lambda known=known: len(terms) > known)
        gaps_s.append(terms[known][0] - gone_s)
        await asyncio.sleep(3 * LEASE_S)
        world.revive(leader)
    world.check_processes()
    judge(terms, acts)
    worst_s = max(gaps_s)
    if worst_s > 1.2 * LEASE_S:
        raise Violation(f"there was no leader for {worst_s:.2f} s", promise="a new leader within lease + 20%")
    return {"worst_s": worst_s, "terms": len(terms)}


async def under_faults(world: World) -> dict[str, Any]:
    """Every kind of fault; when it is over there is a leader."""
    terms: list[tuple[float, int, str]] = []
    acts: list[tuple[float, int]] = []
    engine = StandIn(world)
    await engine.start()
    app = an_app(world, terms, acts)
    for name in NODES:
        await world.start(name, run_node, engine, app)
    async with world.storm(40.0, hosts=[*NODES, engine.name]):
        await asyncio.sleep(40.0)
    for name in NODES:
        world.revive(name)
    healed_s = world.time
    await _until(lambda: acts and acts[-1][0] > healed_s + 1.0)
    world.check_processes()
    judge(terms, acts)
    return {"terms": len(terms), "acts": len(acts)}


def judge(terms: list[tuple[float, int, str]], acts: list[tuple[float, int]]) -> None:
    """Demand that each token has one leader, tokens rise, and nobody acts after a later leader has begun."""
    tokens = [token for _, token, _ in terms]
    if tokens != sorted(set(tokens)):
        raise Violation(f"the tokens of the leaders are {tokens}", promise="one leader per token")
    begun = {token: time_s for time_s, token, _ in terms}
    for time_s, token in acts:
        later = [other for other in tokens if other > token and begun[other] < time_s]
        if later:
            raise Violation(
                f"the leader with token {token} acted at {time_s}, when {later[0]} led", promise="one leader"
            )


async def _until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.02)
