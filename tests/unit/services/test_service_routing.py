"""The router: whatever it is told, it chooses among what it may, and leaves out no more than half."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.resilience import BreakerConfig, BreakerState, LeastRequests, PolicyEventKind
from coterie.services._routing import Endpoint, Peer, Router

BREAKER = BreakerConfig(min_calls=4, open_s=1.0)

addresses = st.sampled_from("abcdefgh")
address_lists = st.lists(addresses, unique=True, max_size=8)
chances = st.floats(0, 1, exclude_max=True)
ends = st.lists(
    st.tuples(addresses, st.sampled_from(["ok", "fails", "gives up"]), st.floats(0, 2)), max_size=60
)


def router(names: str | list[str], breaker: BreakerConfig | None = BREAKER, **options: Any) -> Router:
    made = Router(breaker, **options)
    made.update([Endpoint(f"node-{name}", name) for name in names], 0.0)
    return made


def end(router: Router, peer: Peer, what: str, now: float, took_s: float = 0.001) -> None:
    {"ok": router.succeeded, "fails": router.failed, "gives up": router.abandoned}[what](peer, now, took_s)


def play(router: Router, calls: list[tuple[str, str, float]]) -> float:
    """Let calls go to the endpoints that are named, and return when the last one ended."""
    now = 0.0
    others = {endpoint.address for endpoint in router.seen}
    for address, what, after_s in calls:
        now += after_s
        peer = router.choose(others - {address}, now=now, chance=0.5)
        if peer is not None:
            end(router, peer, what, now)
    return now


@given(address_lists, st.lists(addresses), ends, chances)
def test_it_finds_an_untried_endpoint_if_there_is_one(
    names: list[str], tried: list[str], calls: list[tuple[str, str, float]], chance: float
) -> None:
    routes = router(names)
    now = play(routes, calls)
    chosen = routes.choose(tried, now=now, chance=chance)
    untried = set(names) - set(tried)
    assert (chosen is not None and chosen.address in untried) if untried else (chosen is None)


@given(st.lists(addresses, unique=True, min_size=1, max_size=8), ends)
def test_it_never_leaves_out_more_than_half(names: list[str], calls: list[tuple[str, str, float]]) -> None:
    routes = router(names, balancer=LeastRequests())
    now = play(routes, calls)
    steps = 8 * 7 * 2
    chosen = {routes.choose((), now=now, chance=step / steps) for step in range(steps)}
    assert 2 * len(chosen) >= len(names)


def test_an_endpoint_that_fails_is_left_out_and_comes_back() -> None:
    told: list[tuple[PolicyEventKind, str]] = []
    routes = router("abc", tell=lambda kind, address: told.append((kind, address)))
    for step in range(4):
        play(routes, [("b", "fails", step / 10)])
    assert {routes.choose((), now=1.0, chance=n / 30).address for n in range(30)} == {"a", "c"}  # type: ignore[union-attr]
    probe = routes.choose({"a", "c"}, now=5.0, chance=0.0)
    assert probe is not None
    assert probe.breaker is not None
    assert probe.breaker.state is BreakerState.HALF_OPEN
    for now in (5.1, 5.2):
        end(routes, probe, "ok", now)
    assert probe.breaker.state is BreakerState.CLOSED
    kinds = [kind.value for kind, address in told if address == "b"]
    assert kinds == ["open", "eject", "half_open", "closed"]


def test_an_endpoint_that_failed_once_is_not_preferred() -> None:
    routes = router("ab")
    for peer_name in "ab":
        play(routes, [(peer_name, "ok", 0.0)] * 3)
    play(routes, [("b", "fails", 0.0)])
    picks = Counter(routes.choose((), now=0.1, chance=n / 20).address for n in range(20))  # type: ignore[union-attr]
    assert set(picks) == {"a"}


def test_quick_successes_that_were_only_counted_reach_the_breaker() -> None:
    routes = router("ab")
    peer = routes.choose({"b"}, now=0.0, chance=0.0)
    assert peer is not None
    assert peer.breaker is not None
    peer.fine += 100
    for _ in range(60):
        end(routes, peer, "fails", 0.1)
    assert peer.breaker.state is BreakerState.CLOSED, "60 of 160 failed"
    for _ in range(41):
        end(routes, peer, "fails", 0.1)
    assert peer.breaker.state is BreakerState.OPEN


def test_what_left_is_forgotten_and_what_comes_starts_slowly() -> None:
    routes = router("ab", balancer=None)
    routes.update([Endpoint("n", "a")], 1.0)
    assert routes.only is not None
    assert routes.only.address == "a"
    routes.update([Endpoint("n", "a"), Endpoint("n", "b")], 2.0)
    assert routes.only is None
    picks = Counter(routes.choose((), now=2.0, chance=n / 20).address for n in range(20))  # type: ignore[union-attr]
    assert set(picks) == {"a"}, "b has just come"


@pytest.mark.parametrize("names", ["", "a"])
def test_few_endpoints(names: str) -> None:
    routes = router(names)
    chosen = routes.choose((), now=0.0, chance=0.5)
    assert (chosen.address if chosen else "") == names
    assert routes.choose(names, now=0.0, chance=0.5) is None


def suspecting(names: str, suspected: str) -> Router:
    made = Router(BREAKER)
    made.update([Endpoint(f"node-{name}", name, suspected=name in suspected) for name in names], 0.0)
    return made


@given(st.sets(addresses, max_size=8), chances)
def test_the_suspected_are_called_last_and_never_leave_nobody(suspected: set[str], chance: float) -> None:
    routes = suspecting("abcdefgh", "".join(suspected))
    tried: list[str] = []
    while (peer := routes.choose(tried, now=0.0, chance=chance)) is not None:
        tried.append(peer.address)
    assert sorted(tried) == list("abcdefgh")
    if len(suspected) <= 5:  # Else most of them are, and nobody is avoided.
        assert set(tried[: 8 - len(suspected)]).isdisjoint(suspected)


def test_when_nearly_all_are_suspected_nobody_is_avoided() -> None:
    routes = suspecting("abcd", "abc")
    chosen = {peer.address for n in range(100) if (peer := routes.choose((), now=0.0, chance=n / 100))}
    assert chosen == set("abcd")


def test_a_new_node_at_the_address_of_a_dead_one_is_not_avoided() -> None:
    routes = Router(BREAKER)
    old, new = Endpoint("old", "a", suspected=True), Endpoint("new", "a")
    routes.update([old, new, Endpoint("other", "b", suspected=True)], 0.0)
    chosen = {peer.address for n in range(100) if (peer := routes.choose((), now=0.0, chance=n / 100))}
    assert chosen == {"a"}
