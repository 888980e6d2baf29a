"""One slow node of five costs next to nothing: calls go where they are answered soon."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from simulated_cluster import run_callers

from coterie import App, Hedge, Overloaded, Policy, idempotent
from coterie.context import current
from coterie.resilience import Balancer, LeastRequests, PowerOfTwo, RoundRobin
from coterie.services._routing import Router
from coterie.simulation import ProcessFailed
from coterie.simulation.nodes import connected
from coterie.simulation.standin import StandIn

NODES = ("a", "b", "c", "d", "e")
START_S, WARM_S, LAST_S = 5.0, 5.0, 15.0
PER_S = 200


def latencies_s(
    slow: dict[str, float],
    *,
    balancer: Balancer,
    policy: Policy,
    full: str = "",
    calls_of: Counter[str] | None = None,
    seed: int = 1,
) -> list[float]:
    """Return what calls took: nodes need 5 to 15 ms, those in `slow` so many times longer.

    The node `full` turns all calls away. `calls_of` counts what came to each node.
    """
    calls_of = Counter() if calls_of is None else calls_of
    app = App("prices", policy=policy)
    took: list[float] = []

    @app.service
    class Prices:
        @idempotent(by_nature=True)
        async def price(self) -> None:
            node = current().node
            calls_of[node] += 1
            if node == full:
                raise Overloaded("there is too much to do", retry_after_s=0.01)
            await asyncio.sleep(random.uniform(0.005, 0.015) * slow.get(node, 1.0))

    async def callers(engine: StandIn) -> None:
        prices = app.client(Prices, balancer=balancer)
        loop = asyncio.get_running_loop()

        async def call(counts: bool) -> None:
            began = loop.time()
            await prices.price()
            if counts:
                took.append(loop.time() - began)

        async with connected(engine, app), asyncio.TaskGroup() as calls:
            while loop.time() < START_S + WARM_S + LAST_S:
                if loop.time() >= START_S:
                    calls.create_task(call(loop.time() >= START_S + WARM_S))
                await asyncio.sleep(random.expovariate(PER_S))

    run_callers(app, NODES, callers, seed=seed)
    return took


def p99(took_s: list[float]) -> float:
    return sorted(took_s)[int(len(took_s) * 0.99)]


HEALTHY: dict[str, float] = {}
SLOW = {"b": 10.0}


@pytest.mark.parametrize("policy", [Policy(), Policy(hedge=Hedge())], ids=["default", "hedged"])
@pytest.mark.parametrize("slow", [SLOW, {"b": 100.0}], ids=["ten times", "a hundred times"])
def test_one_slow_node_of_five_costs_less_than_a_tenth(policy: Policy, slow: dict[str, float]) -> None:
    healthy_s = p99(latencies_s(HEALTHY, balancer=PowerOfTwo(), policy=policy))
    assert p99(latencies_s(slow, balancer=PowerOfTwo(), policy=policy)) < 1.1 * healthy_s


@pytest.mark.parametrize("balancer", [RoundRobin(), LeastRequests()], ids=["round robin", "least requests"])
def test_balancers_that_do_not_look_at_latency_cost_more(balancer: Balancer) -> None:
    """So the test above can fail."""
    healthy_s = p99(latencies_s(HEALTHY, balancer=balancer, policy=Policy()))
    assert p99(latencies_s(SLOW, balancer=balancer, policy=Policy())) > 5 * healthy_s


def test_a_node_that_turns_all_calls_away_gets_few_and_no_caller_notices() -> None:
    calls_of = Counter[str]()
    took_s = latencies_s({}, balancer=PowerOfTwo(), policy=Policy(), full="b", calls_of=calls_of)
    assert calls_of["b"] < 0.02 * calls_of.total(), (
        "though it would answer at once, and has nothing under way"
    )
    assert p99(took_s) < 2 * p99(latencies_s({}, balancer=PowerOfTwo(), policy=Policy()))


def test_refusals_that_taught_nothing_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: a node that turns calls away looks as good as any, and its callers' budgets run out."""
    monkeypatch.setattr(Router, "refused", lambda self, peer, now, took_s: None)
    with pytest.raises(ProcessFailed):
        latencies_s({}, balancer=PowerOfTwo(), policy=Policy(), full="b")


def test_hedges_that_taught_nothing_would_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: what a hedge has overtaken is not counted as slow, and goes on getting calls."""
    monkeypatch.setattr(Router, "outrun", lambda self, peer, now, took_s: None)
    policy = Policy(hedge=Hedge())
    healthy_s = p99(latencies_s(HEALTHY, balancer=PowerOfTwo(), policy=policy))
    assert p99(latencies_s(SLOW, balancer=PowerOfTwo(), policy=policy)) > 1.1 * healthy_s
