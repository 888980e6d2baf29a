"""Causal consistency: each session guarantee by hand, a naive decider, and replicas of several sorts."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import done, history

from coterie.errors import InvalidArgument
from coterie.history import History, check
from coterie.history.checkers.causal import GUARANTEES

W, R = "write", "read"
BROKEN = {
    "read-your-writes": done((0, W, "x", 1, None), (0, R, "x", None, None)),
    "monotonic-reads": done((0, W, "x", 1, None), (1, R, "x", None, 1), (1, R, "x", None, None)),
    "monotonic-writes": done(
        (0, W, "x", 1, None), (0, W, "y", 1, None), (1, R, "y", None, 1), (1, R, "x", None, None)
    ),
    "writes-follow-reads": done(
        (0, W, "x", 1, None),
        (1, R, "x", None, 1),
        (1, W, "y", 1, None),
        (2, R, "y", None, 1),
        (2, R, "x", None, None),
    ),
    "causal-order": done(
        (0, W, "x", 1, None),
        (1, R, "x", None, 1),
        (1, W, "y", 1, None),
        (2, R, "y", None, 1),
        (2, W, "z", 1, None),
        (3, R, "z", None, 1),
        (3, R, "x", None, None),
    ),
}


@pytest.mark.parametrize("guarantee", BROKEN)
def test_each_guarantee_is_named_with_the_chain_that_shows_it(guarantee: str) -> None:
    recorded = BROKEN[guarantee]
    verdict = check(recorded, "causal")
    assert (verdict.status, verdict.anomaly) == ("violated", guarantee)
    assert len(verdict.witness) == len(recorded.intervals), "each of these operations is needed"
    assert check(recorded, "causal", guarantees=[guarantee]).anomaly == guarantee
    others = [other for other in GUARANTEES if other not in {guarantee, "causal-order"}]
    assert check(recorded, "causal", guarantees=others).ok


@pytest.mark.parametrize("guarantee", BROKEN)
def test_without_any_one_operation_of_the_witness_nothing_is_wrong(guarantee: str) -> None:
    witness = check(BROKEN[guarantee], "causal").witness
    for left_out in witness:
        if left_out.f == W and any(op.result == 1 and op.key == left_out.key for op in witness):
            continue  # its reads would be of a value that nobody wrote
        rows = [(op.process, op.f, op.key, op.argument, op.result) for op in witness if op is not left_out]
        assert check(done(*rows), "causal").ok, f"without {left_out}"


def test_the_witness_leaves_out_the_rest_of_the_sessions() -> None:
    noise = [(p, R, "n", None, None) for p in (0, 1, 1, 0)]
    rows = [(0, W, "x", 1, None), *noise, (0, W, "x", 2, None), *noise, (1, R, "x", None, 2), *noise]
    verdict = check(done(*rows, (1, R, "x", None, 1)), "causal")
    assert verdict.anomaly == "monotonic-reads"
    assert [str(op) for op in verdict.witness] == [
        'write "x" 1 by process 0',
        'write "x" 2 by process 0',
        'read "x" -> 2 by process 1',
        'read "x" -> 1 by process 1',
    ]


def test_concurrent_writes_may_be_seen_in_either_order() -> None:
    rows = [(0, W, "x", 1, None), (1, W, "x", 2, None)]
    for p, values in ((2, (1, 2)), (3, (2, 1))):
        rows += [(p, R, "x", None, value) for value in values]
    assert check(done(*rows), "causal").ok
    assert check(done(*rows, (2, R, "x", None, 1)), "causal").ok, "its order is known to nobody"


def test_an_unknown_write_need_not_be_seen_by_its_own_session() -> None:
    rows = [(0, "invoke", W, "x", 1), (0, "info", W, "x", None)]

    def reads(process: int, *values: Any) -> list[Any]:
        return [(process, t, R, "x", v if t == "ok" else None) for v in values for t in ("invoke", "ok")]

    assert check(history(*rows, *reads(0, None, 1, 1)), "causal").ok
    assert check(history(*rows, *reads(0, 1, None)), "causal").anomaly == "monotonic-reads"


def test_causes_that_go_round_are_seen() -> None:
    rows = done((0, R, "x", None, 1), (0, W, "y", 1, None), (1, R, "y", None, 1), (1, W, "x", 1, None))
    verdict = check(rows, "causal")
    assert verdict.anomaly == "causality-cycle"
    assert len(verdict.witness) == 4


def test_values_out_of_thin_air_and_repeated_ones() -> None:
    assert check(done((0, R, "x", None, 5)), "causal").anomaly == "unwritten-value"
    failed = [
        (0, "invoke", W, "x", 5),
        (0, "fail", W, "x", None),
        (1, "invoke", R, "x", None),
        (1, "ok", R, "x", 5),
    ]
    assert check(history(*failed), "causal").anomaly == "aborted-read"
    assert check(done((0, W, "x", 5, None), (1, W, "x", 5, None)), "causal").status == "inconclusive"
    assert check(done((0, R, "x", None, 0)), "causal", initial=0).ok


@pytest.mark.parametrize("guarantees", ["causal", ["causality"]])
def test_guarantees_are_named(guarantees: Any) -> None:
    with pytest.raises(InvalidArgument, match="read-your-writes"):
        check([], "causal", guarantees=guarantees)


def test_other_operations_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="record 1"):
        check(done((0, "cas", "x", [1, 2], None)), "causal")


class Replicas:
    """Replicas that exchange writes; the last writer by Lamport time wins.

    `causal` delivers a write only after what its writer knew; without, as it comes. `sticky` sessions
    stay at one replica.
    """

    def __init__(self, count: int, *, causal: bool) -> None:
        self.causal = causal
        self.values: list[dict[str, tuple[tuple[int, int], Any]]] = [{} for _ in range(count)]
        self.applied: list[list[int]] = [[0] * count for _ in range(count)]
        self.lamport = [0] * count
        self.flying: list[tuple[int, int, list[int], tuple[int, int], str, Any]] = []

    def write(self, at: int, key: str, value: Any) -> None:
        self.lamport[at] += 1
        stamp = self.lamport[at], at
        needs = list(self.applied[at])
        self.applied[at][at] += 1
        self.values[at][key] = stamp, value
        self.flying += [(at, to, needs, stamp, key, value) for to in range(len(self.values)) if to != at]

    def deliver(self, random: Random) -> None:
        ready = [m for m in self.flying if not self.causal or self._known(m)]
        if not ready:
            return
        message = random.choice(ready)
        self.flying.remove(message)
        source, to, _, stamp, key, value = message
        self.lamport[to] = max(self.lamport[to], stamp[0])
        self.applied[to][source] += 1
        if key not in self.values[to] or self.values[to][key][0] < stamp:
            self.values[to][key] = stamp, value

    def _known(self, message: Any) -> bool:
        source, to, needs, *_ = message
        mine = self.applied[to]
        return mine[source] == needs[source] and all(
            have >= need for i, (have, need) in enumerate(zip(mine, needs, strict=True)) if i != source
        )


def run(random: Random, *, causal: bool, sticky: bool, operations: int, sessions: int = 4) -> History:
    replicas, fresh, rows = Replicas(3, causal=causal), itertools.count(1), []
    for _ in range(operations):
        process = random.randrange(sessions)
        at = process % 3 if sticky else random.randrange(3)
        key = random.choice("xy")
        if random.random() < 0.4:
            value = next(fresh)
            replicas.write(at, key, value)
            rows.append((process, W, key, value, None))
        else:
            rows.append((process, R, key, None, replicas.values[at].get(key, (0, None))[1]))
        for _ in range(random.randrange(3)):
            replicas.deliver(random)
    return done(*rows)


def naive(recorded: History) -> bool:
    """Decide from the definition, with the causal order as a set of pairs."""
    ops = list(recorded.intervals)
    writer = {(op.key, op.argument): i for i, op in enumerate(ops) if op.f == W}
    order = {
        (i, j)
        for (i, one), (j, two) in itertools.combinations(enumerate(ops), 2)
        if one.process == two.process
    }
    order |= {
        (writer[op.key, op.result], i) for i, op in enumerate(ops) if op.f == R and op.result is not None
    }
    while more := {(a, d) for a, b in order for c, d in order if b == c} - order:
        order |= more
    for i, op in enumerate(ops):
        if op.f == R:
            seen = None if op.result is None else writer[op.key, op.result]
            for j, newer in enumerate(ops):
                later = seen is None or (seen, j) in order
                if newer.f == W and newer.key == op.key and j != seen and later and (j, i) in order:
                    return False
    return True


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_agrees_with_the_definition(seed: int, causal: bool, sticky: bool) -> None:
    recorded = run(Random(seed), causal=causal, sticky=sticky, operations=14)
    verdict = check(recorded, "causal")
    assert verdict.ok == naive(recorded), str(verdict)
    if verdict.status == "violated":
        rows = [(op.process, op.f, op.key, op.argument, op.result) for op in verdict.witness]
        assert not naive(done(*rows)), "the witness proves the violation"


@pytest.mark.parametrize(
    ("causal", "sticky", "broken"),
    [
        (True, True, set()),
        (True, False, {"read-your-writes", "monotonic-reads"}),
        (False, True, {"monotonic-writes", "writes-follow-reads"}),
    ],
)
def test_replicas_break_just_what_their_sort_breaks(causal: bool, sticky: bool, broken: set[str]) -> None:
    found = [
        check(run(Random(seed), causal=causal, sticky=sticky, operations=300), "causal", guarantees=[name])
        for seed in range(10)
        for name in GUARANTEES[:4]
    ]
    anomalies = {verdict.anomaly for verdict in found} - {""}
    if sticky:
        assert anomalies == broken
    else:
        assert anomalies >= broken
