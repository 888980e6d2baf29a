"""Nodes of one app in the simulator, on an engine's stand-in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from coterie import App
from coterie.simulation import World, run
from coterie.simulation.nodes import run_node
from coterie.simulation.standin import StandIn

__all__ = ["run_callers", "start_cluster"]


async def start_cluster(world: World, app: App, names: Iterable[str]) -> StandIn:
    """Start the engine and a node on each host that is named, and return the engine."""
    engine = StandIn(world)
    await engine.start()
    for name in names:
        await world.start(name, run_node, engine, app)
    return engine


def run_callers(
    app: App, names: Iterable[str], callers: Callable[[StandIn], Awaitable[None]], *, seed: int
) -> None:
    """Run a universe of a cluster and of `callers`, which are a process of their own, until those end."""

    async def main(world: World) -> None:
        engine = await start_cluster(world, app, names)
        await world.start("callers", callers, engine)
        await world.wait("callers")
        world.check_processes()

    run(main, seed=seed)
