"""Balancers: fair, warm starts, keys that stay; adaptive limits and queues under load."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import InvalidConfiguration
from coterie.resilience import (
    AdaptiveLimit,
    AdaptiveLimitConfig,
    AdmissionQueue,
    Balancer,
    ConsistentHash,
    LeastRequests,
    Loads,
    Local,
    PowerOfTwo,
    QueueConfig,
    RoundRobin,
    Target,
    Weighted,
)

FIVE = [Target(f"node-{n}", zone="east" if n < 2 else "west") for n in range(5)]


def shares(balancer: Balancer, targets: list[Target], loads: Loads, calls: int = 5000) -> Counter[str]:
    """Choose for calls that end at once, and count."""
    chance, chosen = random.Random(1), Counter[str]()
    for n in range(calls):
        target = balancer.choose(targets, loads, now=n / 1000, chance=chance.random(), key=None)
        chosen[target.address] += 1
    return chosen


@pytest.mark.parametrize("balancer", [PowerOfTwo(), LeastRequests(), RoundRobin(), Weighted()])
def test_equal_targets_get_equal_shares(balancer: Balancer) -> None:
    counted = shares(balancer, FIVE, Loads())
    assert min(counted.values()) > 850
    assert max(counted.values()) < 1150


def test_a_slow_target_gets_little() -> None:
    loads, chance, chosen = Loads(), random.Random(1), Counter[str]()
    for n in range(5000):
        now = n / 1000
        target = PowerOfTwo().choose(FIVE, loads, now=now, chance=chance.random(), key=None)
        chosen[target.address] += 1
        loads.finished(loads.started(target.address), now, 0.5 if target is FIVE[0] else 0.005, failed=False)
    assert chosen["node-0"] < 25


def test_what_fails_at_once_does_not_look_fast() -> None:
    loads, chance, chosen = Loads(), random.Random(1), Counter[str]()
    for n in range(2000):
        now = n / 1000
        target = PowerOfTwo().choose(FIVE, loads, now=now, chance=chance.random(), key=None)
        chosen[target.address] += 1
        failed = target is FIVE[0]
        loads.finished(loads.started(target.address), now, 0.0 if failed else 0.005, failed=failed)
    assert chosen["node-0"] < 20


def test_a_new_target_starts_slowly_and_those_of_the_start_do_not() -> None:
    loads = Loads(warm_s=10)
    loads.retain([t.address for t in FIVE[:4]], 100.0)
    assert [loads.warmth(t.address, 100.0) for t in FIVE[:4]] == [1.0] * 4
    loads.retain([t.address for t in FIVE], 200.0)
    assert loads.warmth("node-4", 200.0) == 0.1
    assert loads.warmth("node-4", 205.0) == 0.5
    assert loads.warmth("node-4", 211.0) == 1.0
    assert loads.cost(FIVE[4], 200.0) == pytest.approx(10 * loads.cost(FIVE[0], 200.0))


def test_a_canary_gets_its_twentieth() -> None:
    targets = [Target("stable", weight=95), Target("canary", weight=5)]
    balancer, loads = Weighted(), Loads()
    picks = [balancer.choose(targets, loads, now=0, chance=0, key=None).address for _ in range(100)]
    assert picks.count("canary") == 5
    places = [n for n, pick in enumerate(picks) if pick == "canary"]
    assert {after - before for before, after in pairwise(places)} == {20}, "spread evenly"


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=12), st.data())
def test_a_key_stays_when_other_targets_leave(addresses: set[str], data: st.DataObject) -> None:
    targets = [Target(address) for address in sorted(addresses)]
    gone = data.draw(st.sampled_from(targets))
    left = [target for target in targets if target is not gone]
    balancer, loads = ConsistentHash(points=20), Loads()

    def owner(targets: list[Target], key: int) -> Target:
        return balancer.choose(targets, loads, now=0, chance=0, key=f"key-{key}")

    before = [owner(targets, key) for key in range(30)]
    after = [owner(left, key) for key in range(30)]
    assert all(a is b for a, b in zip(after, before, strict=True) if b is not gone)


@given(st.lists(st.integers(0, 40), min_size=5, max_size=5), st.text(min_size=1, max_size=4))
def test_no_target_is_loaded_beyond_its_bound(pending: list[int], key: str) -> None:
    loads = Loads()
    for target, count in zip(FIVE, pending, strict=True):
        loads.of(target.address).pending = count
    chosen = ConsistentHash(balance=1.25).choose(FIVE, loads, now=0, chance=0, key=key)
    assert loads.of(chosen.address).pending < 1.25 * (sum(pending) + 1) / 5 + 1


def test_calls_stay_in_the_zone_while_it_is_a_fair_part() -> None:
    east = Local("east", least_share=0.3)
    assert set(shares(east, FIVE, Loads())) == {"node-0", "node-1"}
    assert len(shares(east, FIVE[1:], Loads())) == 4, "one of four is too few"
    assert len(shares(Local("north"), FIVE, Loads())) == 5


class Server:
    """Does `width` calls at a time, each in 10 ms; more wait. A step of `serve` is 10 ms."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.inside: list[float] = []

    def serve(self, limit: AdaptiveLimit, now: float, offered: int) -> int:
        for _ in range(offered):
            if limit.admit():
                self.inside.append(now)
        done, self.inside = self.inside[: self.width], self.inside[self.width :]
        for began in done:
            limit.release(now + 0.01, now + 0.01 - began)
        return len(done)


def test_the_limit_finds_what_the_server_can_do() -> None:
    limit, server = AdaptiveLimit(AdaptiveLimitConfig(initial=200)), Server(width=20)
    done = [server.serve(limit, step / 100, offered=60) for step in range(3000)]
    assert 20 <= limit.limit <= 80, "about what is under way at once, and a queue no longer than that"
    assert sum(done[-1000:]) >= 0.98 * 20 * 1000, "nothing of its capacity is lost"


def test_the_limit_grows_while_there_is_room_and_only_when_it_is_used() -> None:
    busy, idle = AdaptiveLimit(), AdaptiveLimit()
    large, small = Server(width=500), Server(width=500)
    for step in range(2000):
        large.serve(busy, step / 100, offered=500)
        small.serve(idle, step / 100, offered=3)
    assert busy.limit > 300
    assert idle.limit == AdaptiveLimitConfig().initial


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.none() | st.floats(0.0001, 2), st.booleans(), st.floats(0, 3)),
        max_size=80,
    )
)
def test_the_limit_stays_within_its_bounds_and_lets_in_no_more(
    steps: list[tuple[int, float | None, bool, float]],
) -> None:
    limit = AdaptiveLimit(AdaptiveLimitConfig(initial=10, lowest=2, highest=30, min_samples=1))
    now, under_way = 0.0, 0
    for offered, took_s, dropped, gap_s in steps:
        for _ in range(offered):
            if limit.admit():
                under_way += 1
                assert under_way <= limit.limit
            else:
                assert under_way >= limit.limit
        now += gap_s
        for _ in range((under_way + 1) // 2):
            under_way -= 1
            limit.release(now, took_s, dropped=dropped)
        assert limit.under_way == under_way
        assert 2 <= limit.limit <= 30


def test_dropped_calls_shrink_the_limit() -> None:
    limit = AdaptiveLimit(AdaptiveLimitConfig(initial=100, lowest=10))
    for step in range(100):
        assert limit.admit()
        limit.release(step / 5, None, dropped=True)
    assert limit.limit == 10


def test_a_queue_that_keeps_up_is_fair_and_one_that_does_not_serves_the_newest() -> None:
    queue = AdmissionQueue[str](QueueConfig(length=10, target_s=0.005, interval_s=0.1))
    queue.add("a", 1, 0.0)
    queue.add("b", 1, 0.01)
    queue.add("important", 0, 0.02)
    assert [place.item for place in (queue.take(0.03), queue.take(0.03)) if place] == ["important", "a"]
    queue.add("c", 1, 0.09)
    assert queue.overloaded(0.11)
    late = queue.expire(0.11)
    assert [place.item for place in late] == ["b", "c"]
    queue.add("d", 1, 0.2)
    queue.add("e", 1, 0.299)
    queue.add("f", 1, 0.3)
    assert queue.overloaded(0.301)
    assert [place.item for place in queue.expire(0.301)] == ["d"]
    newest = queue.take(0.301)
    assert newest is not None
    assert newest.item == "f"


@given(st.lists(st.tuples(st.sampled_from("atxl"), st.integers(0, 3), st.floats(0, 0.05)), max_size=100))
def test_the_queue_is_bounded_and_loses_nobody(steps: list[tuple[str, int, float]]) -> None:
    queue, now = AdmissionQueue[int](QueueConfig(length=4)), 0.0
    waiting: dict[int, int] = {}
    places = {}
    for number, (what, priority, gap_s) in enumerate(steps):
        now += gap_s
        if what == "a":
            place, displaced = queue.add(number, priority, now)
            if displaced is not None:
                assert waiting.pop(displaced.item) > priority, "only the less important make room"
            if place is not None:
                waiting[number], places[number] = priority, place
            else:
                assert all(other <= priority for other in waiting.values())
        elif what == "t":
            taken = queue.take(now)
            if taken is None:
                assert not waiting
            else:
                assert waiting.pop(taken.item) == min([taken.priority, *waiting.values()])
        elif what == "x":
            expiry = queue.next_expiry(now)
            now = max(now, expiry or 0.0) if priority % 2 else now  # Exactly then, as a timer does.
            late = queue.expire(now)
            assert bool(late) == (expiry is not None and expiry <= now), "nobody is woken for nothing"
            for each in late:
                del waiting[each.item]
        elif waiting:
            first = min(waiting)
            del waiting[first]
            queue.leave(places[first])
            queue.leave(places[first])
        assert len(queue) == len(waiting) <= 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdaptiveLimitConfig(initial=1, lowest=2),
        lambda: AdaptiveLimitConfig(tolerance=0.5),
        lambda: QueueConfig(target_s=1, interval_s=0.5),
        lambda: ConsistentHash(balance=1.0),
    ],
)
def test_a_wrong_configuration_is_refused(make: object) -> None:
    with pytest.raises(InvalidConfiguration):
        make()  # type: ignore[operator]
