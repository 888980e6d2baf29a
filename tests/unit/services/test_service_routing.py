"""The router: whatever it is told, it chooses among what it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.services._routing import Endpoint, Router

addresses = st.sampled_from("abcdefgh")
endpoint_lists = st.lists(addresses, unique=True, max_size=8).map(
    lambda names: [Endpoint(f"node-{name}", name) for name in names]
)
chances = st.floats(0, 1, exclude_max=True)
times = st.floats(0, 100)
loads = st.dictionaries(addresses, st.integers(0, 5))


def choose(
    router: Router,
    endpoints: Sequence[Endpoint],
    tried: Sequence[str] = (),
    *,
    now: float = 0.0,
    chance: float = 0.0,
    pending: dict[str, int] | None = None,
) -> str | None:
    load = pending or {}
    chosen = router.choose(endpoints, tried, now=now, chance=chance, pending=lambda a: load.get(a, 0))
    assert chosen is None or chosen in endpoints
    return None if chosen is None else chosen.address


@st.composite
def routers(draw: st.DrawFn) -> Router:
    router = Router(avoid_s=draw(st.floats(0, 10)))
    for address, when in draw(st.lists(st.tuples(addresses, times), max_size=10)):
        router.failed(address, when)
    for address in draw(st.lists(addresses, max_size=3)):
        router.worked(address)
    return router


situations = st.fixed_dictionaries({"now": times, "chance": chances, "pending": loads})


@given(routers(), endpoint_lists, st.lists(addresses), situations)
def test_it_finds_an_untried_endpoint_if_there_is_one(
    router: Router, endpoints: list[Endpoint], tried: list[str], situation: Any
) -> None:
    chosen = choose(router, endpoints, tried, **situation)
    untried = {endpoint.address for endpoint in endpoints} - set(tried)
    assert (chosen in untried) if untried else (chosen is None)


@given(routers(), endpoint_lists, st.lists(addresses), situations)
def test_it_avoids_what_failed_lately_while_there_is_another(
    router: Router, endpoints: list[Endpoint], tried: list[str], situation: Any
) -> None:
    chosen = choose(router, endpoints, tried, **situation)
    untried = {endpoint.address for endpoint in endpoints} - set(tried)
    sound = {address for address in untried if router._avoided.get(address, 0.0) <= situation["now"]}
    if sound:
        assert chosen in sound


@given(endpoint_lists.filter(lambda endpoints: len(endpoints) > 1), chances, loads)
def test_it_never_takes_the_one_with_the_most_calls_unless_all_have_as_many(
    endpoints: list[Endpoint], chance: float, pending: dict[str, int]
) -> None:
    chosen = choose(Router(), endpoints, chance=chance, pending=pending)
    load = {endpoint.address: pending.get(endpoint.address, 0) for endpoint in endpoints}
    busiest = [address for address, count in load.items() if count == max(load.values())]
    if len(busiest) == 1:
        assert chosen not in busiest


@given(endpoint_lists.filter(bool), times)
def test_a_failure_is_forgotten_in_time_or_by_a_success(endpoints: list[Endpoint], now: float) -> None:
    for forget in (lambda router: None, lambda router: router.worked("a")):
        router = Router(avoid_s=0.5)
        router.failed("a", now)
        forget(router)
        later = now + 1.0
        assert choose(router, [Endpoint("n", "a"), Endpoint("m", "b")], ["b"], now=later) == "a"
        chosen = {
            choose(router, [Endpoint("n", "a"), Endpoint("m", "b")], now=later, chance=chance)
            for chance in (0.0, 0.99)
        }
        assert chosen == {"a", "b"}


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_equal_endpoints_get_equal_shares(count: int) -> None:
    endpoints = [Endpoint(str(index), str(index)) for index in range(count)]
    steps = count * (count - 1) * 100
    shares = Counter(choose(Router(), endpoints, chance=step / steps) for step in range(steps))
    assert set(shares.values()) == {steps // count}


def test_nothing_to_choose_from() -> None:
    assert choose(Router(), []) is None
    assert choose(Router(), [Endpoint("n", "a")], ["a"]) is None
    assert choose(Router(), [Endpoint("n", "a")]) == "a"


def test_what_is_remembered_of_failures_is_bounded() -> None:
    router = Router(avoid_s=0.5)
    for index in range(2000):
        router.failed(str(index), now=1.0)
    assert len(router._avoided) == 256
    endpoints = [Endpoint("old", "0"), Endpoint("new", "1999")]
    assert {choose(router, endpoints, now=1.0, chance=chance) for chance in (0.0, 0.99)} == {"0"}
