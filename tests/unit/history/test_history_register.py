"""Registers: each anomaly by hand, then both deciders against each other and against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import AtomicRegister, brute_force, done, history, register_step, simulate

from coterie.errors import InvalidArgument
from coterie.history import History, Interval, check
from coterie.history.checkers import register as register_module
from coterie.history.checkers._register_ops import value_units

seeds = st.integers(0, 2**32)


def draws(*, distinct: bool, swaps: bool) -> Callable[[Random], tuple[str, Any, Any]]:
    """Return a source of reads, writes and compare-and-sets."""
    fresh = itertools.count(1)
    latest: list[Any] = [None]

    def draw(random: Random) -> tuple[str, Any, Any]:
        kind = random.random()
        value = next(fresh) if distinct else random.randrange(3)
        if kind < 0.5:
            return "read", None, None
        if swaps and kind < 0.75:
            old = random.choice(latest[-3:]) if distinct else random.randrange(3)
            latest.append(value)
            return "cas", None, [old, value]
        latest.append(value)
        return "write", None, value

    return draw


def random_history(random: Random, *, distinct: bool, swaps: bool, operations: int = 7) -> History:
    return simulate(
        random,
        draws(distinct=distinct, swaps=swaps),
        AtomicRegister().apply,
        operations=random.randint(2, operations),
        unknown=random.choice([0, 0.2, 0.5]),
    )


def with_another_answer(random: Random, right: History) -> History:
    """Return the history with one read that answers something else, perhaps rightly."""
    records = list(right.operations)
    reads = [i for i, record in enumerate(records) if record.type == "ok" and record.f == "read"]
    if reads:
        written = [
            r.value if r.f == "write" else r.value[1] for r in records if r.type == "invoke" and r.value
        ]
        chosen = random.choice(reads)
        records[chosen] = msgspec.structs.replace(records[chosen], value=random.choice([None, *written]))
    return History(records)


W, R, CAS = "write", "read", "cas"
BROKEN = {
    "stale-read": done((0, W, None, 1, None), (0, W, None, 2, None), (1, R, None, None, 1)),
    "reordered-reads": history(
        (0, "invoke", W, None, 1),
        (1, "invoke", W, None, 2),
        *((2, t, R, None, v) for v in (1, 2, 1, 2) for t in ("invoke", "ok")),
        (0, "ok", W, None, None),
        (1, "ok", W, None, None),
    ),
    "future-read": done((0, R, None, None, 1), (1, W, None, 1, None)),
    "unwritten-value": done((0, W, None, 1, None), (1, R, None, None, 7)),
    "aborted-read": history(
        (0, "invoke", W, None, 1),
        (0, "fail", W, None, None),
        (1, "invoke", R, None, None),
        (1, "ok", R, None, 1),
    ),
    "lost-update": done((0, W, None, 1, None), (1, CAS, None, [1, 2], None), (2, CAS, None, [1, 3], None)),
    "not-linearizable": done(
        (0, W, None, 1, None), (0, W, None, 2, None), (0, W, None, 1, None), (1, R, None, None, 2)
    ),
}


@pytest.mark.parametrize("anomaly", BROKEN)
def test_each_anomaly_is_named_and_its_witness_is_minimal(anomaly: str) -> None:
    verdict = check(BROKEN[anomaly], "register")
    assert (verdict.status, verdict.anomaly) == ("violated", anomaly)
    assert verdict.sentence
    assert 1 <= len(verdict.witness) <= 5


def test_the_witness_leaves_out_what_does_not_matter() -> None:
    noise = [(p, W, None, 100 + i, None) for i, p in enumerate([3, 4, 5])]
    verdict = check(
        done(
            *noise, (0, W, None, 1, None), (0, W, None, 2, None), (5, R, None, None, 2), (1, R, None, None, 1)
        ),
        "register",
    )
    assert [str(op) for op in verdict.witness] == [
        "write 1 by process 0",
        "write 2 by process 0",
        "read -> 1 by process 1",
    ]


def test_a_chain_of_swaps_is_held_together() -> None:
    # 2 was made of 1 and 3 of 2, so no 9 can be seen between them.
    chain = (
        (0, W, None, 1, None),
        (0, CAS, None, [1, 2], None),
        (2, R, None, None, 9),
        (0, CAS, None, [2, 3], None),
    )
    rows = [(1, "invoke", W, None, 9)]
    for p, f, k, argument, result in chain:
        rows += [(p, "invoke", f, k, argument), (p, "ok", f, k, result)]
    assert check(history(*rows), "register").status == "violated"
    assert check(history(*(row for row in rows if row[0] != 2)), "register").ok


def test_an_unknown_write_may_take_effect_late_or_never() -> None:
    unknown = [(0, "invoke", W, None, 1), (0, "info", W, None, None)]
    other = [(1, "invoke", W, None, 2), (1, "ok", W, None, None)]

    def read(value: Any) -> list[tuple[Any, ...]]:
        return [(2, "invoke", R, None, None), (2, "ok", R, None, value)]

    assert check(history(*unknown, *other, *read(2)), "register").ok
    assert check(history(*unknown, *other, *read(2), *read(1)), "register").ok
    assert check(history(*unknown, *other, *read(1), *read(2)), "register").status == "violated"


def test_the_witness_keeps_the_read_that_shows_that_an_unknown_swap_happened() -> None:
    rows = [(0, "invoke", CAS, None, [None, 5]), (0, "info", CAS, None, None)]
    for p, f, argument, result in [(1, R, None, 5), (1, W, 7, None), (1, R, None, 5), (1, R, None, None)]:
        rows += [(p, "invoke", f, None, argument), (p, "ok", f, None, result)]
    verdict = check(history(*rows), "register")
    assert verdict.anomaly == "stale-read"
    assert not brute_force(verdict.witness, None, register_step)


def test_swaps_that_go_round_are_wrong() -> None:
    verdict = check(done((0, CAS, None, [1, 2], None), (1, CAS, None, [2, 1], None)), "register")
    assert verdict.anomaly == "unwritten-value"
    assert len(verdict.witness) == 2


def test_the_witness_keeps_a_read_that_is_neither_first_nor_last() -> None:
    verdict = check(
        history(
            (0, "invoke", W, None, 1),
            (0, "ok", W, None, None),
            (1, "invoke", R, None, None),
            (0, "invoke", W, None, 7),
            (0, "ok", W, None, None),
            (2, "invoke", CAS, None, [1, 5]),
            (2, "info", CAS, None, None),
            (1, "ok", R, None, 5),
        ),
        "register",
    )
    assert verdict.status == "violated"
    assert not brute_force(verdict.witness, None, register_step)


def test_the_search_remembers_where_it_has_been() -> None:
    rows: list[Any] = [("z", "invoke", W, None, 1), ("z", "ok", W, None, None)]
    rows += [(p, "invoke", W, None, p) for p in range(9)]
    rows += [(p, "ok", W, None, None) for p in range(9)]
    rows += [("z", t, R, None, v) for v in (3, 4) for t in ("invoke", "ok")]
    assert check(history(*rows), "register", max_steps=20_000).status == "violated"


def test_true_and_one_are_different_values() -> None:
    assert check(done((0, W, None, True, None), (1, R, None, None, 1)), "register").status == "violated"


def test_values_may_be_objects_and_lists() -> None:
    value = {"a": [1, {"b": 2}]}
    assert check(done((0, W, None, value, None), (1, R, None, None, {"a": [1, {"b": 2}]})), "register").ok


def test_keys_are_independent_and_the_initial_value_can_be_given() -> None:
    rows = done((0, W, "x", 1, None), (0, R, "y", None, None), (0, R, "x", None, 1))
    assert check(rows, "register").ok
    assert check(done((0, R, None, None, 0)), "register", initial=0).ok
    assert check(done((0, R, None, None, 0)), "register").status == "violated"


def test_a_map_deletes() -> None:
    rows = [(0, "put", "x", 1, None), (0, "delete", "x", None, None), (1, "get", "x", None, None)]
    assert check(done(*rows), "map").ok
    assert check(done(*rows[:2], (1, "get", "x", None, 1)), "map").status == "violated"


def test_too_few_steps_are_inconclusive_and_never_a_pass() -> None:
    random = Random(5)
    long = simulate(
        random, draws(distinct=False, swaps=True), AtomicRegister().apply, operations=60, processes=6
    )
    assert check(long, "register").ok
    verdict = check(long, "register", max_steps=5)
    assert verdict.status == "inconclusive"
    assert "max_steps" in verdict.sentence
    assert not verdict.ok


@pytest.mark.parametrize("seed", range(5))
def test_the_witness_of_a_long_history_with_repeated_values_is_short(seed: int) -> None:
    random = Random(seed)
    right = simulate(
        random, draws(distinct=False, swaps=True), AtomicRegister().apply, operations=600, processes=5
    )
    assert check(right, "register").ok
    rows = [(r.process, r.type, r.f, r.key, r.value) for r in right]
    # A write of 7 between two reads of it, with nothing else under way: the second read is stale.
    stale = [("w", W, 7, None), ("r", R, None, 7), ("w", W, 8, None), ("r", R, None, 7), ("w", W, 7, None)]
    for p, f, argument, result in stale:
        rows += [(p, "invoke", f, None, argument), (p, "ok", f, None, result)]
    verdict = check(history(*rows), "register")
    assert verdict.anomaly == "not-linearizable"
    assert {"write 8 by process w", "read -> 7 by process r"} <= set(map(str, verdict.witness))
    assert len(verdict.witness) <= 8
    assert "whatever was there before" in verdict.sentence


def test_operations_that_do_not_fit_the_model_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="record 1: 'push'"):
        check(done((0, "push", None, 1, None)), "register")
    with pytest.raises(InvalidArgument, match="record 1: 'cas'"):
        check(done((0, "cas", None, 3, None)), "register")


@settings(max_examples=300, deadline=None)
@given(seeds, st.booleans(), st.booleans())
def test_what_an_atomic_register_does_is_linearizable(seed: int, distinct: bool, swaps: bool) -> None:
    right = simulate(
        Random(seed),
        draws(distinct=distinct, swaps=swaps),
        AtomicRegister().apply,
        operations=60,
        processes=4,
        unknown=0.1,
    )
    verdict = check(right, "register")
    assert verdict.ok, str(verdict)


@settings(max_examples=600, deadline=None)
@given(seeds, st.booleans(), st.booleans())
def test_agrees_with_trying_every_order(seed: int, distinct: bool, swaps: bool) -> None:
    random = Random(seed)
    changed = with_another_answer(random, random_history(random, distinct=distinct, swaps=swaps))
    expected = brute_force(changed.intervals, None, register_step)
    verdict = check(changed, "register")
    assert verdict.ok == expected, str(verdict)
    if verdict.anomaly not in {"", "unwritten-value", "aborted-read"}:
        assert not brute_force(verdict.witness, None, register_step), "the witness proves the violation"


@settings(max_examples=300, deadline=None)
@given(seeds, st.booleans())
def test_sorting_and_searching_agree(seed: int, swaps: bool) -> None:
    random = Random(seed)
    changed = with_another_answer(random, random_history(random, distinct=True, swaps=swaps, operations=25))
    assert check(changed, "register").ok == searched(changed.intervals)


def searched(intervals: tuple[Interval, ...]) -> bool:
    """Decide by search although the values are distinct."""
    present = register_module._relevant(intervals)
    found = register_module._linearizable(present, None, register_module.Budget(100_000))
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(40))
def test_removing_any_read_or_value_of_a_witness_mends_it(seed: int) -> None:
    random = Random(seed)
    for _ in range(30):
        distinct = random.random() < 0.5
        changed = with_another_answer(
            random, random_history(random, distinct=distinct, swaps=True, operations=20)
        )
        verdict = check(changed, "register")
        if verdict.anomaly in {"stale-read", "reordered-reads", "not-linearizable"}:
            break
    else:
        pytest.fail("no violation was drawn")
    for unit in value_units(verdict.witness):
        smaller = tuple(op for op in verdict.witness if op.start not in unit)
        assert searched(smaller), f"{verdict} is not minimal: {sorted(unit)}"
