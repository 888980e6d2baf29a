"""Rate limits of the whole cluster: by key, in batches, open or closed when the Store is away."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie import App, InvalidArgument, Outcome, RateLimited, Unavailable
from coterie.context import CURRENT
from coterie.engines.memory import open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import InvalidConfiguration, NotRunning
from coterie.gateway.problems import problem_of
from coterie.ports.store import Store
from coterie.resilience import Rate, RateBinding, RateLimit
from coterie.resilience.rate import grant
from coterie.services import ErrorRegistry
from coterie.testing import Cluster

RATE = Rate(rate=10, per=1.0, burst=8)


class Clock(SystemClock):
    """Stands still until it is told to go on."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        super().__init__()
        self.now = 1000.0
        self.ahead_s = ahead_s

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now + self.ahead_s


class Away:
    """A store that does not answer."""

    def __init__(self, store: Store) -> None:
        self.guarantees = store.guarantees

    async def get(self, key: str) -> None:
        raise Unavailable("away")


async def admitted(binding: RateBinding, key: str, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            await binding.acquire(key, 1)
        except RateLimited:
            continue
        count += 1
    return count


async def a_store() -> Any:
    return (await open_engine("memory:", clock=SystemClock(), entropy=SystemEntropy())).store


def a_node(store: Any, clock: Clock, **options: Any) -> RateBinding:
    return RateBinding(RateLimit("api", RATE, **options), store=store, prefix="rate/", clock=clock)


async def test_nodes_share_one_limit_and_keys_have_their_own() -> None:
    store, clock = await a_store(), Clock()
    nodes = [a_node(store, clock) for _ in range(3)]
    counted: Counter[str] = Counter()
    for _ in range(10):
        for node in nodes:
            for key in ("ada", "bob"):
                counted[key] += await admitted(node, key, 1)
    assert counted["ada"] <= 8
    assert counted["bob"] <= 8
    assert counted["ada"] >= 8 - 2 * len(nodes), "no more than a batch a node is left over"


async def test_over_time_no_more_than_the_rate_comes_through() -> None:
    store, clock = await a_store(), Clock()
    nodes = [a_node(store, clock) for _ in range(3)]
    count = 0
    for _ in range(400):
        clock.now += 0.025
        for node in nodes:
            count += await admitted(node, "ada", 1)
    assert 80 <= count <= 8 + 10 * 10


async def test_a_refusal_says_when_to_come_back() -> None:
    clock = Clock()
    node = a_node(await a_store(), clock)
    await admitted(node, "ada", 20)
    with pytest.raises(RateLimited, match="the rate limit 'api' is used up for 'ada'") as caught:
        await node.acquire("ada", 1)
    assert caught.value.retry_after_s == pytest.approx(0.1, rel=0.01)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    told = problem_of(caught.value, ErrorRegistry())
    assert told is not None
    assert (told[0].status, told[1]) == (429, [(b"retry-after", b"1")])
    clock.now += 0.101
    await node.acquire("ada", 1)


async def test_a_clock_that_is_behind_is_refused_and_none_gets_more() -> None:
    store, right, behind = await a_store(), Clock(), Clock(ahead_s=-5.0)
    assert await admitted(a_node(store, right), "ada", 20) == 8
    assert await admitted(a_node(store, behind), "ada", 20) == 0


async def test_a_record_from_the_far_future_is_not_believed() -> None:
    store, wrong, right = await a_store(), Clock(ahead_s=1e6), Clock()
    await admitted(a_node(store, wrong), "ada", 20)
    assert await admitted(a_node(store, right), "ada", 20) == 8


async def test_open_or_closed_without_the_store() -> None:
    away: Any = Away(await a_store())
    opened, closed = a_node(away, Clock()), a_node(away, Clock(), when_unsure="closed")
    assert await admitted(opened, "ada", 100) == 100
    with pytest.raises(Unavailable, match="nobody can tell") as caught:
        await closed.acquire("ada", 1)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert (opened.unsure, closed.unsure) == (100, 1)


async def test_concurrent_calls_fetch_once() -> None:
    node = a_node(await a_store(), Clock())
    results = await asyncio.gather(*(node.acquire("ada", 1) for _ in range(50)), return_exceptions=True)
    assert sum(result is None for result in results) == 8


async def test_in_an_app() -> None:
    app = App("shop")
    limit = app.rate_limit("api", rate=0.001, burst=3)
    with pytest.raises(InvalidConfiguration, match="twice"):
        app.rate_limit("api", rate=1)
    async with Cluster(app, nodes=2) as cluster:
        for node in cluster.nodes:
            CURRENT.set(node.call)
            await limit.acquire("ada")
        with pytest.raises(InvalidArgument, match="1 to 3 units, not 4"):
            await limit.acquire("ada", units=4)
        with pytest.raises(NotRunning, match="not declared"):
            await RateLimit("other", RATE).acquire()
        for _ in range(3):
            with suppress(RateLimited):
                await limit.acquire("ada")
        with pytest.raises(RateLimited):
            await limit.acquire("ada")


@given(
    st.floats(0.5, 100),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 10), st.integers(0, 20)), max_size=60),
)
def test_what_is_granted_stays_within_the_rate_and_the_burst(
    per_s: float, burst: int, steps: list[tuple[float, int, int]]
) -> None:
    rate, due, now, total = Rate(rate=per_s, burst=burst), 0.0, 1e9, 0
    for elapsed_s, least, more in steps:
        now += elapsed_s
        units, due, wait_s = grant(rate, due, now, least=least, most=least + more)
        total += units
        assert total <= burst + per_s * (now - 1e9) * (1 + 1e-6) + 2e-3
        assert units == 0 or least <= units <= least + more
        if not units and least <= burst:
            assert 0 < wait_s < math.inf
            assert grant(rate, due, now + wait_s + 1e-4, least=least, most=least)[0] == least
