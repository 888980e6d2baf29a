"""A rate limit of the whole cluster holds while nodes die, are cut off, pause, and lose their engine."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest
from simulated_cluster import start_cluster

from coterie import App, CoterieError, Policy
from coterie.context import current
from coterie.ports.store import Commit
from coterie.resilience import shared_rate
from coterie.simulation import World, run
from coterie.simulation.nodes import connected
from coterie.simulation.standin import StandIn

NODES = ("a", "b", "c")
RATE, BURST, LAST_S = 20, 10, 30.0
HELD = len(NODES) * (BURST // 4)
"""What nodes have taken and not spent they may still spend within a second: so much may come later."""
FAULTS = ("partition", "latency", "reset", "pause", "kill", "engine", "slow")
"""All but those of clocks: what a clock that is ahead lets through is in the list of what is not promised."""


def let_through(seed: int, *, faults: bool, by_node: Counter[str] | None = None) -> tuple[list[float], float]:
    """Return when something was let through, and when the first was asked for. True time.

    `by_node` gets how many each node let through.
    """
    app = App("api", policy=Policy(timeout_s=1.0, retry=None, breaker=None))
    limit = app.rate_limit("api", rate=RATE, per=1.0, burst=BURST, when_unsure="closed")
    through: list[float] = []
    began = 0.0

    @app.service
    class Api:
        async def call(self) -> None:
            await limit.acquire("ada")
            through.append(asyncio.get_running_loop().time())
            if by_node is not None:
                by_node[current().node] += 1

    async def caller(engine: StandIn) -> None:
        api, loop = app.client(Api), asyncio.get_running_loop()

        async def call() -> None:
            with suppress(CoterieError):
                await api.call()

        async with connected(engine, app), asyncio.TaskGroup() as calls:
            end = loop.time() + LAST_S
            while loop.time() < end:
                calls.create_task(call())
                await asyncio.sleep(random.expovariate(4 * RATE))

    async def main(world: World) -> None:
        nonlocal began
        engine = await start_cluster(world, app, NODES)
        await asyncio.sleep(5.0)
        began = world.time
        await world.start("caller", caller, engine)
        if faults:
            async with world.storm(LAST_S, hosts=[*NODES, engine.name], classes=FAULTS):
                await asyncio.sleep(LAST_S)
        await world.wait("caller")

    run(main, seed=seed)
    return through, began


def most_beyond(through: list[float]) -> float:
    """Return by how many units at most any span of time has had more than its rate and the burst."""
    return max(
        (later - first + 1) - (BURST + RATE * (through[later] - through[first]))
        for first in range(len(through))
        for later in range(first, len(through))
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_span_of_time_has_more_than_the_burst_and_its_rate(seed: int) -> None:
    through, _ = let_through(seed, faults=True)
    assert through
    assert most_beyond(sorted(through)) <= HELD


def test_without_faults_it_is_used_up() -> None:
    through, began = let_through(1, faults=False)
    assert len(through) >= 0.8 * RATE * (max(through) - began)
    assert most_beyond(sorted(through)) <= HELD


def test_nodes_that_compete_for_one_key_all_get_some_of_it() -> None:
    by_node: Counter[str] = Counter()
    through, _ = let_through(1, faults=False, by_node=by_node)
    assert len(by_node) == len(NODES)
    assert min(by_node.values()) >= len(through) / len(NODES) / 2, by_node


def test_units_taken_without_a_check_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: nodes that move the record of a key at once do not notice each other."""
    monkeypatch.setattr(shared_rate, "Commit", lambda puts, deletes, checks: Commit(puts, deletes))
    through, _ = let_through(1, faults=False)
    assert most_beyond(sorted(through)) > HELD
