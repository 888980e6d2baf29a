"""The breaker: a golden transcript, what it promises for any calls, and windows against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import InvalidConfiguration
from coterie.resilience import Breaker, BreakerConfig, BreakerState, Target
from coterie.resilience.breaker import Window
from coterie.resilience.ejection import Ejection, EjectionConfig

CONFIG = BreakerConfig(min_calls=4, open_s=1.0, longest_open_s=3.0, probes=2, slow_s=0.5, window_s=10.0)

TRANSCRIPT = """
0.0 ok          closed
0.1 ok          closed
0.2 fail        closed
0.3 fail        open        half of four calls failed
0.4 refused     open
1.4 fail        open        the probe fails: two seconds now
3.3 refused     open
3.5 ok          half_open   the first probe succeeds
3.6 ok          closed      the second: closed, and the window is empty
3.7 fail        closed
3.8 fail        closed
3.9 fail        closed
4.0 slow        open        three of four failed, and this is known at 4.6
5.7 slow        open        a slow probe is a failed one
8.4 fail        open        three seconds, the longest
11.3 refused    open
11.5 ok         half_open
11.6 cancelled  half_open   says nothing: neither counts nor keeps a place
11.7 ok         closed
"""


def play(breaker: Breaker, now: float, what: str) -> str:
    took_s = 0.6 if what == "slow" else 0.0
    if not breaker.admit(now):
        assert what == "refused"
    elif what == "cancelled":
        breaker.forget(now, took_s=0.0)
    else:
        assert what != "refused"
        breaker.record(now + took_s, failed=what == "fail", took_s=took_s)
    return breaker.state.value


def test_the_transcript() -> None:
    breaker = Breaker(CONFIG)
    for line in TRANSCRIPT.strip().splitlines():
        now, what, state, *_ = line.split()
        assert play(breaker, float(now), what) == state, line


def test_probes_that_are_never_heard_of_do_not_shut_it_for_good() -> None:
    breaker = Breaker(CONFIG)
    for _ in range(4):
        breaker.record(0.0, failed=True, took_s=0.0)
    assert [breaker.admit(now) for now in (1.0, 1.5, 2.0, 3.9)] == [True, True, False, False]
    assert [breaker.admit(now) for now in (4.0, 4.1, 4.2)] == [True, True, False]
    assert (
        breaker.record(4.3, failed=True, took_s=3.3) is None
    )  # One of the first two: it is no probe any more.
    assert breaker.record(4.4, failed=False, took_s=0.4) is None
    assert breaker.record(4.5, failed=False, took_s=0.4) is BreakerState.CLOSED


def test_a_call_from_before_is_no_probe() -> None:
    breaker = Breaker(CONFIG)
    for _ in range(4):
        breaker.record(0.0, failed=True, took_s=0.0)
    assert breaker.admit(1.0)
    assert breaker.state is BreakerState.HALF_OPEN
    for _ in range(5):  # They were admitted while it was closed, and come back late.
        assert breaker.record(1.5, failed=False, took_s=1.4) is None
        breaker.forget(1.5, took_s=1.4)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.admit(1.6)
    assert not breaker.admit(1.6), "more probes than asked for"


@given(
    st.lists(st.tuples(st.floats(0, 0.7), st.sampled_from(["ok", "fail", "slow", "cancelled"])), max_size=80)
)
def test_it_always_comes_back_and_never_opens_on_few_calls(calls: list[tuple[float, str]]) -> None:
    breaker, now, admitted = Breaker(CONFIG), 0.0, 0
    for gap_s, what in calls:
        now += gap_s
        if breaker.would_admit(now):
            admitted += 1
            play(breaker, now, what)
        else:
            assert admitted >= CONFIG.min_calls
            assert 0 < breaker.wait_s(now) <= CONFIG.longest_open_s + 0.61  # A slow call ends later.
    now += CONFIG.longest_open_s + 1
    for _ in range(CONFIG.probes):
        assert breaker.admit(now)
        breaker.record(now, failed=False, took_s=0.0)
    assert breaker.state is BreakerState.CLOSED or breaker.window.calls


@given(st.lists(st.tuples(st.floats(0, 4), st.booleans(), st.booleans()), max_size=60))
def test_a_window_counts_the_last_ten_slices(calls: list[tuple[float, bool, bool]]) -> None:
    window, now, seen = Window(10.0), 0.0, []
    for gap_s, failed, slow in calls:
        now += gap_s
        window.add(now, failed=failed, slow=slow)
        seen.append((int(now), failed, slow))
        kept = [each for each in seen if each[0] > int(now) - 10]
        assert window.calls == len(kept)
        assert window.failed == sum(each[1] for each in kept)
        assert window.slow == sum(each[2] for each in kept)


TARGETS = [Target(f"node-{n}") for n in range(5)]


def broken(ejection: Ejection, count: int, now: float) -> None:
    for target in TARGETS[:count]:
        for _ in range(20):
            ejection.record(target.address, now, failed=True, took_s=0.0)


@pytest.mark.parametrize(("failing", "left"), [(0, 5), (1, 4), (2, 3), (3, 3), (4, 5), (5, 5)])
def test_never_more_than_half_is_ejected_and_none_in_a_panic(failing: int, left: int) -> None:
    ejection = Ejection(config=EjectionConfig(most=0.5, panic=0.3))
    broken(ejection, failing, 1.0)
    admitted = ejection.admitted(TARGETS, 1.1)
    assert len(admitted) == left
    assert set(TARGETS[failing:]) <= set(admitted)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.floats(0, 0.4)), max_size=200),
    st.integers(1, 5),
)
def test_ejection_leaves_at_least_half(calls: list[tuple[int, bool, float]], count: int) -> None:
    ejection, now = Ejection(CONFIG), 0.0
    targets = TARGETS[:count]
    for index, failed, gap_s in calls:
        now += gap_s
        ejection.record(TARGETS[index].address, now, failed=failed, took_s=0.0)
        assert 2 * len(ejection.admitted(targets, now)) >= count


def test_an_ejected_target_is_probed_when_its_time_is_over() -> None:
    ejection = Ejection(CONFIG)
    broken(ejection, 1, 1.0)
    assert TARGETS[0] not in ejection.admitted(TARGETS, 1.5)
    assert TARGETS[0] in ejection.admitted(TARGETS, 2.1)
    ejection.retain(target.address for target in TARGETS[1:])
    assert ejection.troubled == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"error_ratio": 0},
        {"slow_ratio": 2},
        {"open_s": 9, "longest_open_s": 1},
        {"min_calls": 0},
        {"slow_s": 0},
    ],
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidConfiguration):
        BreakerConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration):
        EjectionConfig(most=0.6)
