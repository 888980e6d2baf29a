"""List-append transactions: each anomaly by hand, every order tried, and databases of each weak level."""

from __future__ import annotations

import itertools
from collections import defaultdict
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import brute_force, history

from coterie.errors import InvalidArgument
from coterie.history import History, Interval, check

seeds = st.integers(0, 2**32)
LEVELS = ("read-committed", "snapshot-isolation", "serializable", "strict-serializable")


def a(key: str, element: int) -> list[Any]:
    return ["append", key, element]


def r(key: str, *elements: int) -> list[Any]:
    return ["r", key, list(elements)]


def asked(steps: list[Any]) -> list[Any]:
    return [[kind, key, None if kind == "r" else value] for kind, key, value in steps]


def concurrent(
    *txns: list[Any], after: tuple[list[Any], ...] = (), failed: list[Any] | None = None
) -> History:
    """Build transactions that all overlap, and then some one after the other."""
    rows: list[tuple[Any, ...]] = [(p, "invoke", "txn", None, asked(steps)) for p, steps in enumerate(txns)]
    if failed is not None:
        rows += [("f", "invoke", "txn", None, asked(failed)), ("f", "fail", "txn", None, None)]
    rows += [(p, "ok", "txn", None, steps) for p, steps in enumerate(txns)]
    for steps in after:
        rows += [("z", "invoke", "txn", None, asked(steps)), ("z", "ok", "txn", None, steps)]
    return history(*rows)


def sequence(*txns: list[Any]) -> History:
    return concurrent(after=txns)


ANOMALIES = {
    "G0": (
        "read-committed",
        concurrent([a("x", 1), a("y", 1)], [a("x", 2), a("y", 2)], after=([r("x", 1, 2), r("y", 2, 1)],)),
    ),
    "G1a": ("read-committed", concurrent([r("x", 1)], failed=[a("x", 1)])),
    "G1b": ("read-committed", concurrent([a("x", 1), a("x", 2)], [r("x", 1)], after=([r("x", 1, 2)],))),
    "G1c": ("read-committed", concurrent([a("x", 1), r("y", 1)], [a("y", 1), r("x", 1)])),
    "duplicate-element": ("read-committed", sequence([a("x", 1)], [r("x", 1, 1)])),
    "incompatible-order": (
        "read-committed",
        concurrent([a("x", 1)], [a("x", 2)], [r("x", 1, 2)], [r("x", 2, 1)]),
    ),
    "unwritten-element": ("read-committed", sequence([r("x", 9)])),
    "internal": ("snapshot-isolation", sequence([a("x", 1), r("x")])),
    "G-single": (
        "snapshot-isolation",
        concurrent([r("x"), a("x", 1)], [r("x"), a("x", 2)], after=([r("x", 1, 2)],)),
    ),
    "G-nonadjacent": (
        "snapshot-isolation",  # a long fork: each of two readers saw only one of two writes
        concurrent([a("x", 1)], [a("y", 1)], [r("x", 1), r("y")], [r("x"), r("y", 1)]),
    ),
    "G2": (
        "serializable",
        concurrent([r("x"), a("y", 1)], [r("y"), a("x", 1)], after=([r("x", 1), r("y", 1)],)),
    ),
    "G0-realtime": ("strict-serializable", sequence([a("x", 1)], [a("x", 2)], [r("x", 2, 1)])),
    "G1c-realtime": ("strict-serializable", sequence([r("x", 1)], [a("x", 1)])),
    "G-single-realtime": ("strict-serializable", sequence([a("x", 1)], [r("x")], [r("x", 1)])),
}


@pytest.mark.parametrize("anomaly", ANOMALIES)
def test_each_anomaly_is_named_and_allowed_by_weaker_levels(anomaly: str) -> None:
    least, recorded = ANOMALIES[anomaly]
    for level in LEVELS:
        verdict = check(recorded, "append", isolation=level)
        if LEVELS.index(level) < LEVELS.index(least):
            assert verdict.ok, f"{level}: {verdict}"
        else:
            assert (verdict.status, verdict.anomaly) == ("violated", anomaly), f"{level}: {verdict}"
            assert 1 <= len(verdict.witness) <= 5


def test_the_sentence_walks_along_the_cycle() -> None:
    verdict = check(ANOMALIES["G2"][1], "append")
    assert 'T1 did not see in "x" what was appended by T2 (rw)' in verdict.sentence
    assert 'T2 did not see in "y" what was appended by T1 (rw)' in verdict.sentence


def test_the_sentence_tells_the_edges_that_make_the_anomaly_and_no_others() -> None:
    skew = sequence([a("x", 1), r("y")], [a("y", 1), r("x")], [r("x", 1), r("y", 1)])
    verdict = check(skew, "append")
    assert verdict.anomaly == "G2"
    assert "(rt)" not in verdict.sentence
    assert verdict.sentence.count("(rw)") == 2


def test_real_time_counts_for_each_of_several_that_ended_before() -> None:
    overlapping = concurrent([a("x", 1)], [a("y", 1)], after=([r("x")], [r("x", 1), r("y", 1)]))
    assert check(overlapping, "append").anomaly == "G-single-realtime"


def test_an_append_that_nobody_saw_comes_after_what_readers_saw() -> None:
    lost = sequence([a("x", 1)], [a("x", 2)], [r("x", 1)])
    assert check(lost, "append", isolation="serializable").ok
    assert check(lost, "append").anomaly == "G-single-realtime"


def test_unknown_transactions_count_only_if_they_were_seen() -> None:
    def then(*elements: int) -> History:
        rows: list[Any] = [(0, "invoke", "txn", None, [a("x", 1), a("y", 1)]), (0, "info", "txn", None, None)]
        for steps in ([r("x", *elements)], [r("y")]):
            rows += [(1, "invoke", "txn", None, asked(steps)), (1, "ok", "txn", None, steps)]
        return history(*rows)

    assert check(then(), "append").ok
    assert check(then(1), "append").anomaly == "G-single-realtime"


@pytest.mark.parametrize("value", [3, [["append", "x"]], [["push", "x", 1]], [["r", "x", 5]], "abc"])
def test_what_is_no_transaction_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="record 1"):
        check(history((0, "invoke", "txn", None, value), (0, "ok", "txn", None, value)), "append")


def test_repeated_elements_are_inconclusive() -> None:
    assert check(sequence([a("x", 1)], [a("x", 1)]), "append").status == "inconclusive"
    assert check(sequence([a("x", 1), a("x", 1)]), "append").status == "inconclusive"


def test_levels_are_named() -> None:
    with pytest.raises(InvalidArgument, match="expected one of read-committed"):
        check([], "append", isolation="acid")


class Database:
    """Transactions step by step. `level` is what it promises, and it uses the freedom that leaves:

    `strict` runs each at one instant; `serializable` runs each at an instant of a time that may lie
    before it began; `snapshot` reads as of its beginning and aborts if a key that it wrote was written since;
    `committed` reads what is committed now; `uncommitted` reads what others have not committed.
    """

    def __init__(self, level: str) -> None:
        self.level = level
        self.lists: dict[str, list[int]] = defaultdict(list)
        self.dirty: dict[str, list[int]] = defaultdict(list)

    def begin(self) -> dict[str, Any]:
        return {
            "snapshot": {k: list(v) for k, v in self.lists.items()},
            "own": defaultdict(list),
            "reads": set(),
        }

    def step(self, txn: dict[str, Any], step: list[Any]) -> list[Any]:
        kind, key, value = step
        own = txn["own"]
        if kind == "append":
            own[key].append(value)
            self.dirty[key].append(value)
            return step
        if self.level == "uncommitted":
            return ["r", key, list(self.dirty[key])]
        base = txn["snapshot"].get(key, []) if self.level != "committed" else self.lists[key]
        txn["reads"].add(key)
        return ["r", key, [*base, *own.get(key, [])]]

    def commit(self, txn: dict[str, Any]) -> bool:
        touched = set(txn["own"]) | (txn["reads"] if self.level == "strict" else set())
        if self.level not in {"committed", "uncommitted"} and any(
            self.lists[key] != txn["snapshot"].get(key, []) for key in touched
        ):
            return False
        for key, elements in txn["own"].items():
            self.lists[key] += elements
        return True


def run(
    random: Random, level: str, *, transactions: int, processes: int = 3, unknown: float = 0.0
) -> History:
    """Run random transactions, and in the end one that reads every key."""
    database, rows = Database(level), []
    fresh = itertools.count(1)
    idle, names = list(range(processes)), itertools.count(processes)
    running: dict[int, tuple[dict[str, Any], list[Any], list[Any]]] = {}
    left = transactions
    while left or running:
        if left and idle and (not running or random.random() < 0.4):
            process = idle.pop(random.randrange(len(idle)))
            steps = [
                ["r", key, None] if random.random() < 0.5 else ["append", key, next(fresh)]
                for key in random.choices("xy", k=random.randint(1, 3))
            ]
            rows.append((process, "invoke", "txn", None, steps))
            running[process] = database.begin(), steps, []
            left -= 1
            continue
        process = random.choice(list(running))
        txn, steps, finished = running[process]
        if len(finished) < len(steps):
            finished.append(database.step(txn, steps[len(finished)]))
            continue
        del running[process]
        ghost = random.random() < unknown
        committed = False if ghost and random.random() < 0.5 else database.commit(txn)
        rows.append(
            (
                process,
                "info" if ghost else "ok" if committed else "fail",
                "txn",
                None,
                finished if committed and not ghost else None,
            )
        )
        idle.append(next(names) if ghost else process)
    last = [["r", key, list(database.lists[key])] for key in "xy"]
    rows += [("last", "invoke", "txn", None, asked(last)), ("last", "ok", "txn", None, last)]
    return history(*rows)


def txn_step(state: Any, op: Interval) -> tuple[Any] | None:
    lists = dict(state)
    for kind, key, value in op.result if op.outcome == "ok" else op.argument:
        seen = lists.get(key, ())
        if kind == "append":
            lists[key] = (*seen, value)
        elif op.outcome == "ok" and tuple(value) != seen:
            return None
    return (lists,)


def without_time(recorded: History) -> list[Interval]:
    return [
        msgspec.structs.replace(op, start=-1, end=10**9) if op.outcome == "ok" else op
        for op in recorded.intervals
    ]


@settings(max_examples=500, deadline=None)
@given(seeds, st.sampled_from(["strict", "snapshot", "committed", "uncommitted"]))
def test_agrees_with_trying_every_order(seed: int, level: str) -> None:
    random = Random(seed)
    recorded = run(random, level, transactions=random.randint(1, 5), unknown=random.choice([0, 0.3]))
    verdict = check(recorded, "append")
    assert verdict.ok == brute_force(recorded.intervals, {}, txn_step), str(verdict)
    verdict = check(recorded, "append", isolation="serializable")
    assert verdict.ok == brute_force(without_time(recorded), {}, txn_step), str(verdict)


@pytest.mark.parametrize(
    ("database", "isolation", "anomalies"),
    [
        ("strict", "strict-serializable", set()),
        ("snapshot", "snapshot-isolation", set()),
        ("snapshot", "serializable", {"G2"}),
        ("committed", "snapshot-isolation", {"G-single", "G-nonadjacent", "internal", "incompatible-order"}),
        ("uncommitted", "read-committed", {"G1a", "G1b", "G1c", "G0", "incompatible-order"}),
    ],
)
def test_weak_databases_are_caught_and_right_ones_pass(
    database: str, isolation: str, anomalies: set[str]
) -> None:
    found = [
        check(
            run(Random(seed), database, transactions=150, unknown=0.05), "append", isolation=isolation
        ).anomaly
        for seed in range(20)
    ]
    assert set(found) <= anomalies | {""}
    assert not anomalies or found.count("") <= 4
