"""Nodes of one app in the simulator, on an engine's stand-in."""

from __future__ import annotations

from collections.abc import Iterable

from coterie import App
from coterie.simulation import World
from coterie.simulation.nodes import run_node
from coterie.simulation.standin import StandIn

__all__ = ["start_cluster"]


async def start_cluster(world: World, app: App, names: Iterable[str]) -> StandIn:
    """Start the engine and a node on each host that is named, and return the engine."""
    engine = StandIn(world)
    await engine.start()
    for name in names:
        await world.start(name, run_node, engine, app)
    return engine
