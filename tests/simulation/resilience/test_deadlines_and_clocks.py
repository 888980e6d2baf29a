"""Deadlines travel as time that is left: clocks that disagree, drift or jump do not move them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from coterie import App, DeadlineExceeded, deadline
from coterie.context import Call
from coterie.resilience import remaining_s
from coterie.services import ServiceBinding
from coterie.simulation import World, run
from coterie.simulation.nodes import connected, run_node
from coterie.simulation.standin import StandIn

DEADLINE_S = 0.5
CALLS = 20


@dataclass
class Seen:
    """What a chain of two nodes saw of its calls, in true time."""

    left_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    outlived_s: list[float] = field(default_factory=list)
    """How long after its caller the method at the end of the chain ended."""


def play(clocks: dict[str, dict[str, float]], *, jumping: bool = False, seed: int = 1) -> Seen:
    """Call a method on b that never answers, by way of a, `CALLS` times."""
    hosts_back, hosts_front, calls_front = App("chain"), App("chain"), App("chain")
    seen, ends = Seen(), list[float]()
    true_time: Callable[[], float] = float

    @hosts_back.service
    class Back:
        async def hang(self) -> None:
            left_s = remaining_s()
            assert left_s is not None
            seen.left_s.append(left_s)
            try:
                await asyncio.Event().wait()
            finally:
                ends.append(true_time())

    @hosts_front.service
    class Front:
        async def ask(self) -> None:
            await back.hang()

    back, front = hosts_front.client(Back), calls_front.client(Front)

    async def caller(engine: StandIn) -> None:
        async with connected(engine, calls_front):
            for _ in range(CALLS):
                await asyncio.sleep(0.3)
                ends.clear()
                began = true_time()
                with deadline(DEADLINE_S), pytest.raises(DeadlineExceeded):
                    await front.ask()
                ended = true_time()
                seen.took_s.append(ended - began)
                await asyncio.sleep(0.3)
                seen.outlived_s += [end - ended for end in ends]

    async def main(world: World) -> None:
        nonlocal true_time

        def time() -> float:
            return world.time

        true_time = time
        engine = StandIn(world)
        await engine.start()
        await world.start("b", run_node, engine, hosts_back)
        await world.start("a", run_node, engine, hosts_front)
        await asyncio.sleep(5.0)
        process = await world.start("caller", caller, engine)
        for name, clock in clocks.items():
            world.clock(name, **clock)
        while jumping and process.alive:
            for offset_s in (-7200.0, 86400.0):
                for name in ("a", "b", "caller"):
                    world.clock(name, offset_s=offset_s)
                    await asyncio.sleep(0.05)
        await world.wait("caller")
        world.check_processes()

    run(main, seed=seed)
    return seen


CLOCKS: dict[str, dict[str, dict[str, float]]] = {
    "right": {},
    "far off": {"a": {"offset_s": -86400.0}, "b": {"offset_s": 3600.0}, "caller": {"offset_s": 7e7}},
    "fast and slow": {
        "a": {"drift_ppm": 10_000},
        "b": {"drift_ppm": -10_000},
        "caller": {"drift_ppm": 5_000},
    },
}


@pytest.mark.parametrize("clocks", [*CLOCKS, "jumping"])
def test_a_deadline_holds_on_all_hosts_whatever_their_clocks_say(clocks: str) -> None:
    seen = play(CLOCKS.get(clocks, {}), jumping=clocks == "jumping")
    assert len(seen.left_s) == len(seen.took_s) == len(seen.outlived_s) == CALLS
    one_percent_s = DEADLINE_S / 100
    assert max(seen.left_s) <= DEADLINE_S + one_percent_s, "nobody down the chain gets more time"
    assert min(seen.left_s) >= 0.8 * DEADLINE_S, "nor much less"
    assert max(seen.took_s) <= DEADLINE_S + 2 * one_percent_s
    assert min(seen.took_s) >= DEADLINE_S - 2 * one_percent_s
    assert max(seen.outlived_s) <= 0.05, "the work ends with its caller"


def test_a_deadline_that_is_not_handed_on_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: what a method calls begins with a deadline of its own."""
    whole = ServiceBinding.call

    def call(self: ServiceBinding, method: Any, args: Any, kwargs: Any, here: Call) -> Any:
        inner = here.node != "a"
        return whole(self, method, args, kwargs, here if inner else Call(here.node, here.bindings))

    monkeypatch.setattr(ServiceBinding, "call", call)
    assert min(play({}).left_s) > DEADLINE_S
