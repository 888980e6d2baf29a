"""Sets, counters and locks: anomalies by hand, all orders tried, and broken systems."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import brute_force, done, history, simulate

from coterie.history import History, Interval, check

seeds = st.integers(0, 2**32)


def changed(random: Random, right: History, change: Callable[[Any], Any]) -> History:
    """Return the history with one read that answers something else."""
    records = list(right.operations)
    reads = [i for i, record in enumerate(records) if record.type == "ok" and record.f == "read"]
    if reads:
        chosen = random.choice(reads)
        records[chosen] = msgspec.structs.replace(records[chosen], value=change(records[chosen].value))
    return History(records)


# --- sets -----------------------------------------------------------------------------------------


def a_set() -> tuple[Callable[[Random], Any], Callable[[str, Any, Any], Any]]:
    fresh = itertools.count()
    elements: list[int] = []

    def apply(f: str, key: Any, argument: Any) -> tuple[bool, Any]:
        if f == "add":
            if argument not in elements:
                elements.append(argument)
            return True, None
        return True, list(elements)

    def draw(random: Random) -> tuple[str, Any, Any]:
        if random.random() < 0.5:
            return "read", None, None
        return "add", None, next(fresh) if random.random() < 0.8 else 0

    return draw, apply


def set_step(state: Any, op: Interval) -> tuple[Any] | None:
    if op.f == "add":
        return (state | {op.argument},)
    return (state,) if op.outcome == "unknown" or set(op.result) == state else None


A, R = "add", "read"
SETS = {
    "lost-element": done((0, A, None, 1, None), (1, R, None, None, [])),
    "stale-read": done((0, A, None, 1, None), (1, R, None, None, []), (1, R, None, None, [1])),
    "vanished-element": history(
        (0, "invoke", A, None, 1),
        *((1, t, R, None, v) for v in ([1], []) for t in ("invoke", "ok")),
    ),
    "duplicated-element": done((0, A, None, 1, None), (1, R, None, None, [1, 1])),
    "unadded-element": done((1, R, None, None, [1])),
    "future-read": done((1, R, None, None, [1]), (0, A, None, 1, None)),
    "aborted-read": history(
        (0, "invoke", A, None, 1),
        (0, "fail", A, None, 1),
        (1, "invoke", R, None, None),
        (1, "ok", R, None, [1]),
    ),
    "reads-disagree": history(
        (0, "invoke", A, None, 1),
        (1, "invoke", A, None, 2),
        (2, "invoke", R, None, None),
        (3, "invoke", R, None, None),
        (2, "ok", R, None, [1]),
        (3, "ok", R, None, [2]),
    ),
    "reordered-adds": history(
        (2, "invoke", R, None, None),
        (0, "invoke", A, None, 1),
        (0, "ok", A, None, None),
        (0, "invoke", A, None, 2),
        (0, "ok", A, None, None),
        (2, "ok", R, None, [2]),
    ),
}


@pytest.mark.parametrize("anomaly", SETS)
def test_each_anomaly_of_a_set_is_named(anomaly: str) -> None:
    verdict = check(SETS[anomaly], "set")
    assert (verdict.status, verdict.anomaly) == ("violated", anomaly)
    assert 1 <= len(verdict.witness) <= 4


@settings(max_examples=400, deadline=None)
@given(seeds)
def test_a_set_agrees_with_trying_every_order(seed: int) -> None:
    random = Random(seed)
    right = simulate(random, *a_set(), operations=random.randint(2, 8), unknown=random.choice([0, 0.3]))
    assert check(right, "set").ok
    added = [op.argument for op in right.intervals if op.f == "add"] or [0]
    other = changed(random, right, lambda seen: list({*seen} ^ {random.choice(added)}))
    verdict = check(other, "set")
    assert verdict.ok == brute_force(other.intervals, frozenset(), set_step), str(verdict)


# --- counters -------------------------------------------------------------------------------------


def a_counter(
    *, lose: float = 0.0, twice: float = 0.0, amounts: tuple[int, ...] = (1, 1, 2, -1)
) -> tuple[Any, Any]:
    total = [0]
    broken = Random(1)

    def apply(f: str, key: Any, argument: Any) -> tuple[bool, Any]:
        if f == "add":
            times = 0 if broken.random() < lose else 2 if broken.random() < twice else 1
            total[0] += times * argument
        return True, total[0] if f == "read" else None

    def draw(random: Random) -> tuple[str, Any, Any]:
        return ("read", None, None) if random.random() < 0.5 else ("add", None, random.choice(amounts))

    return draw, apply


def counter_step(state: Any, op: Interval) -> tuple[Any] | None:
    if op.f == "add":
        return (state + op.argument,)
    return (state,) if op.outcome == "unknown" or op.result == state else None


@settings(max_examples=400, deadline=None)
@given(seeds)
def test_a_counter_agrees_with_trying_every_order(seed: int) -> None:
    random = Random(seed)
    right = simulate(random, *a_counter(), operations=random.randint(2, 8), unknown=random.choice([0, 0.3]))
    assert check(right, "counter").ok
    other = changed(random, right, lambda seen: seen + random.choice([-1, 1]))
    expected = brute_force(other.intervals, 0, counter_step)
    verdict = check(other, "counter")
    assert verdict.ok == expected, str(verdict)
    if verdict.status == "violated":
        assert not brute_force(verdict.witness, 0, counter_step), "the witness proves the violation"
    if expected:
        assert check(other, "counter", exact=False).ok, "the bounds are necessary"


@pytest.mark.parametrize(("fault", "anomaly"), [("lose", "lost-update"), ("twice", "unadded-amount")])
def test_a_counter_that_loses_or_repeats_is_caught(fault: str, anomaly: str) -> None:
    caught = []
    for seed in range(20):
        draw, apply = a_counter(**{fault: 0.2}, amounts=(1,))
        verdict = check(simulate(Random(seed), draw, apply, operations=40), "counter", exact=False)
        caught.append(verdict.anomaly)
    assert set(caught) <= {anomaly, ""}
    assert caught.count(anomaly) >= 15


def test_a_long_search_for_a_counter_is_inconclusive() -> None:
    long = simulate(Random(3), *a_counter(), operations=200, processes=8)
    assert check(long, "counter", max_steps=3).status == "inconclusive"
    assert check(long, "counter", max_steps=3, exact=False).ok


# --- locks ----------------------------------------------------------------------------------------


def lock_history(random: Random, operations: int, *, broken: float = 0.0, unknown: float = 0.0) -> History:
    """Processes that acquire and release; a failed or unknown acquisition is not released."""
    holder: list[Any] = [None]
    records: list[tuple[Any, ...]] = []
    state: dict[int, str] = dict.fromkeys(range(3), "idle")
    pending: dict[int, tuple[str, bool]] = {}
    for _ in range(operations * 2):
        process = random.randrange(3)
        if process in pending:
            f, happened = pending.pop(process)
            lost = random.random() < unknown
            records.append((process, "info" if lost else "ok" if happened else "fail", f, None, None))
            if f == "acquire":
                state[process] = "holds" if happened and (not lost or random.random() < 0.5) else "idle"
            else:
                state[process] = "holds" if lost and random.random() < 0.5 else "idle"
            continue
        f = "release" if state[process] == "holds" else "acquire"
        records.append((process, "invoke", f, None, None))
        if f == "acquire":
            happened = holder[0] is None or random.random() < broken
            holder[0] = process if happened else holder[0]
        else:
            happened = holder[0] == process
            holder[0] = None if happened else holder[0]
        pending[process] = f, happened
    return history(*records)


def lock_step(state: Any, op: Interval) -> tuple[Any] | None:
    if op.f == "acquire":
        return (op.process,) if state is None else None
    return (None,) if state == op.process else None


@settings(max_examples=500, deadline=None)
@given(seeds, st.sampled_from([0.0, 0.5]))
def test_a_lock_agrees_with_trying_every_order(seed: int, broken: float) -> None:
    random = Random(seed)
    unknown = random.choice([0, 0.3])
    recorded = lock_history(random, random.randint(2, 7), broken=broken, unknown=unknown)
    verdict = check(recorded, "mutex")
    possible = brute_force(recorded.intervals, None, lock_step)
    assert verdict.ok >= possible, str(verdict)
    assert unknown or verdict.ok == possible
    if verdict.status == "violated" and not unknown:
        assert not brute_force(verdict.witness, None, lock_step), "the witness proves the violation"


def test_a_lock_that_sometimes_lets_two_in_is_caught() -> None:
    verdicts = [check(lock_history(Random(seed), 40, broken=0.3), "mutex") for seed in range(20)]
    assert {verdict.anomaly for verdict in verdicts} <= {"", "two-holders", "unheld-release"}
    assert sum(verdict.status == "violated" for verdict in verdicts) >= 18
    assert all(check(lock_history(Random(seed), 40), "mutex").ok for seed in range(20))
