"""Retries, their pauses and their budget; rates; quantiles."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import Conflict, InvalidConfiguration, Outcome, Overloaded, Unavailable
from coterie.resilience import (
    Gcra,
    PeakEwma,
    Policy,
    Quantiles,
    Rate,
    Retry,
    RetryBudget,
    RetryBudgetConfig,
    TokenBucket,
)


@pytest.mark.parametrize(
    ("error", "alone", "idempotent"),
    [
        (Unavailable("", outcome=Outcome.NOT_APPLIED), True, True),
        (Unavailable("", outcome=Outcome.UNKNOWN), False, True),
        (Overloaded(""), True, True),
        (Conflict(""), False, False),
        (OSError(), False, True),
        (ValueError(), False, False),
    ],
)
def test_only_what_is_worth_it_and_safe_is_repeated(error: Exception, alone: bool, idempotent: bool) -> None:
    retry = Retry(also=(OSError,))
    assert retry.worth(error, idempotent=False) is alone
    assert retry.worth(error, idempotent=True) is idempotent


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 60))
def test_pauses_are_within_their_bounds(repeat: int, chance: float, after: float | None) -> None:
    retry = Retry(base_s=0.02, longest_s=1.0)
    pause_s = retry.pause_s(repeat, chance, Overloaded("", retry_after_s=after))
    assert (after or 0.0) <= pause_s <= (after or 0.0) + min(1.0, 0.02 * 2.0 ** (min(repeat, 60) - 1))


def test_the_ceiling_of_the_pause_doubles() -> None:
    retry = Retry(base_s=0.02, longest_s=0.1)
    assert [round(retry.pause_s(n, 0.5), 4) for n in (1, 2, 3, 4, 5)] == [0.01, 0.02, 0.04, 0.05, 0.05]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2)), max_size=300))
def test_repeats_stay_within_the_ratio_the_floor_and_the_burst(steps: list[tuple[bool, float]]) -> None:
    config = RetryBudgetConfig(ratio=0.1, floor_per_s=0.5, burst=5)
    budget, now, firsts, repeats = RetryBudget(config), 0.0, 0, 0
    for first, gap_s in steps:
        now += gap_s
        if first:
            budget.attempt()
            firsts += 1
        else:
            repeats += budget.spend(now)
        assert repeats <= config.burst + config.ratio * firsts + config.floor_per_s * now + 1e-6


def test_a_failing_service_gets_a_tenth_more_and_no_storm() -> None:
    budget = RetryBudget(RetryBudgetConfig(ratio=0.1, floor_per_s=0, burst=20))
    repeats = 0
    for _ in range(10_000):
        budget.attempt()
        while budget.spend(0.0):  # Every attempt fails, and would be repeated without end.
            repeats += 1
    assert 1000 <= repeats <= 1020


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4)), max_size=100),
    st.integers(1, 10),
    st.sampled_from([0.5, 1.0, 7.0, 100.0]),
)
def test_gcra_and_the_bucket_keep_the_rate(
    calls: list[tuple[float, int]], burst: int, per_second: float
) -> None:
    rate = Rate(rate=per_second, burst=burst)
    gcra, bucket = Gcra(rate), TokenBucket(rate)
    now, taken, from_bucket = 0.0, 0, 0
    for gap_s, units in calls:
        now += gap_s
        wait_s = gcra.wait_s(now, units)
        if wait_s == 0:
            taken += units
        elif units > burst:
            assert wait_s == math.inf
        else:
            assert gcra.wait_s(now + wait_s * 0.5, units) > 0, "it could have been had sooner"
        from_bucket += units * bucket.take(now, units)
        allowed = burst + per_second * now + 1e-6
        assert taken <= allowed
        assert from_bucket <= allowed


def test_coming_back_when_told_works() -> None:
    gcra = Gcra(Rate(rate=3, per=1.0, burst=2))
    assert gcra.wait_s(0.0) == gcra.wait_s(0.0) == 0
    wait_s = gcra.wait_s(0.0)
    assert wait_s == pytest.approx(1 / 3)
    assert gcra.wait_s(wait_s) == 0
    assert gcra.idle_at() == pytest.approx(1.0)


@given(st.lists(st.floats(1e-5, 100), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_is_within_a_bin(latencies: list[float], quantile: float) -> None:
    quantiles = Quantiles(window_s=10)
    for took_s in latencies:
        quantiles.add(0.0, took_s)
    exact = sorted(latencies)[max(math.ceil(quantile * len(latencies)) - 1, 0)]
    answer = quantiles.at(quantile)
    assert answer is not None
    assert exact <= answer * (1 + 1e-9)
    assert answer <= exact * 2 ** (1 / 8) * (1 + 1e-9)


def test_quantiles_forget() -> None:
    quantiles = Quantiles(window_s=10)
    assert quantiles.at(0.5) is None
    quantiles.add(0.0, 1.0)
    quantiles.add(11.0, 0.001)
    assert quantiles.count == 2
    quantiles.add(45.0, 0.001)
    assert quantiles.count == 1


def test_a_peak_jumps_up_and_decays() -> None:
    ewma = PeakEwma(decay_s=10)
    ewma.add(0.0, 0.1)
    ewma.add(1.0, 2.0)
    assert ewma.seconds == 2.0
    ewma.add(1.0, 0.1)
    assert ewma.seconds == 2.0, "one fast call does not make up for a slow one"
    assert ewma.at(11.0) == pytest.approx(2.0 / math.e)
    ewma.add(31.0, 0.1)
    assert 0.1 < ewma.seconds < 0.3


def test_a_file_overrides_single_fields() -> None:
    policy = Policy(retry=Retry(also=(OSError,)))
    changed = policy.overridden({"timeout_s": 2, "retry": {"attempts": 5}, "breaker": "off"}, where="x")
    assert changed.timeout_s == 2.0
    assert changed.retry == Retry(attempts=5, also=(OSError,))
    assert changed.breaker is None
    assert policy.timeout_s == 5.0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"retry": {"attemps": 5}}, "there is no 'retry.attemps' to set (did you mean 'attempts'?)"),
        (
            {"retry": {"also": []}},
            "there is no 'retry.also' to set (there are: attempts, base_s, longest_s, bud",
        ),
        ({"timeout_s": "a"}, "timeout_s: expected `float | 'off'`, got `str`"),
        ({"timeout_s": -1}, "timeout_s must be above 0"),
        ({"retry": {"attempts": 0}}, "retry: attempts must be between 1 and 100, not 0"),
        ({"retry": {"attempts": "many"}}, "retry.attempts: expected `int`, got `str`"),
        ({"queue": "off"}, "queue: expected a table, got `str`"),
        ({"hedge": {"quantil": 0.9}}, "there is no 'hedge.quantil' to set (did you mean 'quantile'?)"),
        ({"hedge": {"quantile": 2}}, "hedge: not usable for hedging"),
        ({"rate": {"per": 3.0}}, "rate: table missing required field `rate`"),
        ({"limit": "many"}, "limit: expected `int | table | 'off'`, got `str`"),
    ],
)
def test_a_wrong_override_names_its_place(values: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"coterie\.toml: ") as raised:
        Policy().overridden(values, where="coterie.toml")
    assert says in str(raised.value)


def test_a_part_that_was_off_is_checked_as_one_that_is_on() -> None:
    on = Policy(retry=None).overridden({"retry": {"budget": {"ratio": 0.5}}}, where="coterie.toml")
    assert on.retry == Retry(budget=RetryBudgetConfig(ratio=0.5))
    with pytest.raises(InvalidConfiguration, match=r"no 'retry\.budget\.rato' to set .*did you mean 'ratio'"):
        Policy(retry=None).overridden({"retry": {"budget": {"rato": 0.5}}}, where="coterie.toml")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(attempts=0),
        lambda: Retry(base_s=2, longest_s=1),
        lambda: RetryBudgetConfig(burst=0),
        lambda: Rate(rate=0),
        lambda: Rate(rate=1, burst=0),
        lambda: Policy(limit=0),
        lambda: Policy(timeout_s=0),
    ],
)
def test_a_wrong_configuration_is_refused(make: object) -> None:
    with pytest.raises(InvalidConfiguration):
        make()  # type: ignore[operator]
