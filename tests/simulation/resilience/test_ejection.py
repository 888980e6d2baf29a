"""Never more than half of the nodes are left out, whatever part of them fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import pytest
from simulated_cluster import run_callers

from coterie import App, CoterieError, Policy, Unavailable
from coterie.context import current
from coterie.resilience import EjectionConfig
from coterie.resilience.balance import Target
from coterie.resilience.ejection import Ejection
from coterie.simulation.nodes import connected
from coterie.simulation.standin import StandIn

NODES = ("a", "b", "c", "d", "e")
START_S, EACH_S, TIMES = 5.0, 8.0, 6
PER_S = 100


def left_out(
    monkeypatch: pytest.MonkeyPatch, *, broken: int, ejection: EjectionConfig | None = None
) -> set[int]:
    """Return how many of the five nodes were left out at the moments when somebody chose one.

    So many nodes fail at a time, every few seconds others.
    """
    sizes: set[int] = set()
    failing: set[str] = set()
    app = App("prices", policy=Policy(ejection=ejection or EjectionConfig()))
    admitted = Ejection.admitted

    def watched(self: Ejection, targets: Sequence[Target], now: float) -> Sequence[Target]:
        chosen = admitted(self, targets, now)
        if len(targets) == len(NODES):
            sizes.add(len(targets) - len(chosen))
        return chosen

    monkeypatch.setattr(Ejection, "admitted", watched)

    @app.service
    class Prices:
        async def price(self) -> None:
            await asyncio.sleep(random.uniform(0.005, 0.015))
            if current().node in failing:
                raise Unavailable("the disk is gone")

    async def callers(engine: StandIn) -> None:
        prices = app.client(Prices)

        async def call() -> None:
            with suppress(CoterieError):
                await prices.price()

        async with connected(engine, app), asyncio.TaskGroup() as calls:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(START_S)
            for _ in range(TIMES):
                failing.clear()
                failing.update(random.sample(NODES, broken))
                end = loop.time() + EACH_S
                while loop.time() < end:
                    calls.create_task(call())
                    await asyncio.sleep(random.expovariate(PER_S))

    run_callers(app, NODES, callers, seed=broken)
    return sizes


@pytest.mark.parametrize("broken", [2, 3, 4, 5])
def test_at_most_half_are_left_out(monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    assert max(left_out(monkeypatch, broken=broken)) == len(NODES) // 2


def test_without_the_bound_more_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: all may be left out."""
    with monkeypatch.context() as patched:
        patched.setattr(EjectionConfig, "__post_init__", lambda _: None)
        unbounded = EjectionConfig(most=1.0)
    assert max(left_out(monkeypatch, broken=3, ejection=unbounded)) > len(NODES) // 2
