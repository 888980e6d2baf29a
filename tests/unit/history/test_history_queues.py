"""Queues and logs: anomalies by hand, every order tried, and broken systems."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import brute_force, done, history, simulate

from coterie.errors import InvalidArgument
from coterie.history import History, Interval, Operation, check

seeds = st.integers(0, 2**32)
E, D = "enqueue", "dequeue"


def rows_of(*operations: tuple[Any, ...]) -> History:
    return done(*((p, f, None, argument, result) for p, f, argument, result in operations))


QUEUES = {
    "lost-element": rows_of((0, E, 1, None), (1, D, None, None)),
    "duplicated-element": rows_of((0, E, 1, None), (1, D, None, 1), (2, D, None, 1)),
    "reordered-elements": rows_of((0, E, 1, None), (0, E, 2, None), (1, D, None, 2), (1, D, None, 1)),
    "unenqueued-element": rows_of((1, D, None, 1)),
    "future-dequeue": rows_of((1, D, None, 1), (0, E, 1, None)),
    "aborted-element": history(
        (0, "invoke", E, None, 1),
        (0, "fail", E, None, None),
        (1, "invoke", D, None, None),
        (1, "ok", D, None, 1),
    ),
    "hidden-element": rows_of((0, E, 1, None), (1, D, None, None), (1, D, None, 1)),
}


@pytest.mark.parametrize("anomaly", QUEUES)
def test_each_anomaly_of_a_queue_is_named(anomaly: str) -> None:
    verdict = check(QUEUES[anomaly], "queue")
    assert (verdict.status, verdict.anomaly) == ("violated", anomaly)
    assert 1 <= len(verdict.witness) <= 4


def test_what_is_still_inside_is_not_lost() -> None:
    assert check(rows_of((0, E, 1, None), (0, E, 2, None), (1, D, None, 1)), "queue").ok
    overtaken = rows_of((0, E, 1, None), (0, E, 2, None), (1, D, None, 2))
    assert check(overtaken, "queue").anomaly == "lost-element"
    assert check(overtaken, "queue", ordered=False).ok


def test_options_allow_disorder_and_repetition() -> None:
    assert check(QUEUES["reordered-elements"], "queue", ordered=False).ok
    assert check(QUEUES["duplicated-element"], "queue", at_least_once=True).ok
    assert check(QUEUES["lost-element"], "queue", ordered=False, at_least_once=True).anomaly == "lost-element"


def test_several_elements_together_can_hide() -> None:
    recorded = history(
        (0, "invoke", E, None, 1),
        (0, "ok", E, None, None),
        (9, "invoke", D, None, None),
        (0, "invoke", E, None, 2),
        (0, "ok", E, None, None),
        (1, "invoke", D, None, None),
        (1, "ok", D, None, 1),
        (9, "ok", D, None, None),
        (1, "invoke", D, None, None),
        (1, "ok", D, None, 2),
    )
    verdict = check(recorded, "queue")
    assert verdict.anomaly == "hidden-element"
    assert len(verdict.witness) == 5


def test_a_drain_takes_all_that_is_left_in_order() -> None:
    filled = [(0, E, 1, None), (0, E, 2, None), (0, E, 3, None)]
    assert check(rows_of(*filled, (1, "drain", None, [1, 2, 3])), "queue").ok
    assert check(rows_of(*filled, (1, "drain", None, [1, 2])), "queue").anomaly == "lost-element"
    assert check(rows_of(*filled, (1, "drain", None, [1, 3, 2])), "queue").anomaly == "reordered-elements"
    assert check(rows_of(*filled, (1, "drain", None, [1, 3, 2])), "queue", ordered=False).ok


def test_an_unknown_dequeue_takes_at_most_one() -> None:
    def after(*enqueued: int, unknown: str = D) -> History:
        rows: list[Any] = []
        for element in enqueued:
            rows += [(0, "invoke", E, None, element), (0, "ok", E, None, None)]
        rows += [(1, "invoke", unknown, None, None), (1, "info", unknown, None, None)]
        return history(*rows, (2, "invoke", D, None, None), (2, "ok", D, None, None))

    assert check(after(1), "queue").ok
    verdict = check(after(1, 2), "queue")
    assert verdict.anomaly == "lost-element"
    assert "only 1 dequeues of unknown outcome" in verdict.sentence
    assert check(after(1, 2, unknown="drain"), "queue").ok


def test_repeated_elements_are_inconclusive_and_others_refused() -> None:
    assert check(rows_of((0, E, 1, None), (0, E, 1, None)), "queue").status == "inconclusive"
    for row in [(0, "push", 1, None), (0, "drain", None, 5)]:
        with pytest.raises(InvalidArgument, match="record 1"):
            check(rows_of(row), "queue")


def a_queue(fault: str = "", chance: float = 0.25) -> tuple[Callable[[Random], Any], Callable[..., Any]]:
    fresh = itertools.count()
    elements: list[int] = []
    broken = Random(3)

    def apply(f: str, key: Any, argument: Any) -> tuple[bool, Any]:
        wrong = broken.random() < chance
        if f == E:
            if not (fault == "lose" and wrong):
                elements.append(argument)
            return True, None
        if not elements or (fault == "hide" and wrong):
            return True, None
        place = len(elements) - 1 if fault == "reorder" and wrong else 0
        return True, elements[place] if fault == "duplicate" and wrong else elements.pop(place)

    def draw(random: Random) -> tuple[str, Any, Any]:
        return (E, None, next(fresh)) if random.random() < 0.5 else (D, None, None)

    return draw, apply


def queue_step(state: Any, op: Interval) -> tuple[Any] | None:
    if op.f == E:
        return ((*state, op.argument),)
    if op.outcome == "unknown":
        return (state[1:],)
    if op.result is None:
        return (state,) if not state else None
    return (state[1:],) if state and state[0] == op.result else None


@settings(max_examples=600, deadline=None)
@given(seeds, st.sampled_from(["", "lose", "hide", "reorder", "duplicate"]))
def test_a_queue_agrees_with_trying_every_order(seed: int, fault: str) -> None:
    recorded = simulate(Random(seed), *a_queue(fault), operations=8)
    verdict = check(recorded, "queue")
    assert verdict.ok == brute_force(recorded.intervals, (), queue_step), str(verdict)
    if verdict.status == "violated" and verdict.anomaly != "unenqueued-element":
        assert not brute_force(verdict.witness, (), queue_step), "the witness proves the violation"


@settings(max_examples=400, deadline=None)
@given(seeds, st.sampled_from(["", "lose", "hide", "reorder", "duplicate"]))
def test_a_violated_queue_is_wrong_in_every_order_whatever_is_unknown(seed: int, fault: str) -> None:
    recorded = simulate(Random(seed), *a_queue(fault), operations=8, unknown=0.3)
    verdict = check(recorded, "queue")
    assert verdict.ok or not brute_force(recorded.intervals, (), queue_step), str(verdict)
    if not fault:
        assert verdict.ok


@pytest.mark.parametrize(
    ("fault", "anomalies"),
    [
        ("lose", {"lost-element"}),
        ("hide", {"hidden-element", "lost-element"}),
        ("reorder", {"reordered-elements", "lost-element"}),
        ("duplicate", {"duplicated-element"}),
    ],
)
def test_broken_queues_are_caught(fault: str, anomalies: set[str]) -> None:
    found = [
        check(simulate(Random(seed), *a_queue(fault), operations=80), "queue").anomaly for seed in range(20)
    ]
    assert set(found) <= {*anomalies, "", "hidden-element"}
    assert found.count("") <= 3


# --- logs -----------------------------------------------------------------------------------------

A, R = "append", "read"
LOGS = {
    "inconsistent-offset": rows_of((0, A, "a", 0), (0, A, "b", 0)),
    "duplicated-record": rows_of((0, A, "a", 0), (1, R, 0, [[0, "a"], [1, "a"]])),
    "unappended-record": rows_of((1, R, 0, [[0, "a"]])),
    "future-read": rows_of((1, R, 0, [[0, "a"]]), (0, A, "a", 0)),
    "aborted-read": history(
        (0, "invoke", A, None, "a"),
        (0, "fail", A, None, None),
        (1, "invoke", R, None, 0),
        (1, "ok", R, None, [[0, "a"]]),
    ),
    "reordered-records": rows_of((0, A, "a", 1), (0, A, "b", 0)),
    "read-went-back": rows_of(
        (0, A, "a", 0), (0, A, "b", 1), (1, R, None, [[0, "a"], [1, "b"]]), (1, R, None, [[0, "a"]])
    ),
    "lost-record": rows_of((0, A, "a", 0), (0, A, "b", 1), (0, A, "c", 2), (1, R, 0, [[0, "a"], [2, "c"]])),
}


@pytest.mark.parametrize("anomaly", LOGS)
def test_each_anomaly_of_a_log_is_named(anomaly: str) -> None:
    verdict = check(LOGS[anomaly], "log")
    assert (verdict.status, verdict.anomaly) == ("violated", anomaly), str(verdict)
    assert 1 <= len(verdict.witness) <= 4


def test_a_record_that_another_reader_saw_must_not_be_passed_over() -> None:
    unknown = [Operation(process=0, type="invoke", f=A, value="a"), Operation(process=0, type="info", f=A)]
    reads = rows_of((3, A, "b", 1), (1, R, 0, [[0, "a"], [1, "b"]]), (2, R, 0, [[1, "b"]])).operations
    later = [Operation(process=o.process, type=o.type, f=o.f, value=o.value) for o in reads]
    assert check([*unknown, *later], "log").anomaly == "lost-record"
    assert check([*unknown, *later[:2], *later[4:]], "log").ok, "nobody saw that it happened"


def test_readers_go_on_from_where_they_were() -> None:
    appended = [(0, A, "a", 0), (0, A, "b", 1), (0, A, "c", 2)]
    assert check(rows_of(*appended, (1, R, None, [[0, "a"]]), (1, R, None, [[1, "b"], [2, "c"]])), "log").ok
    gap = rows_of(*appended, (1, R, None, [[0, "a"]]), (1, R, None, [[2, "c"]]))
    assert check(gap, "log").anomaly == "lost-record"
    sought = rows_of(*appended, (1, R, None, [[0, "a"]]), (1, "seek", None, None), (1, R, None, [[2, "c"]]))
    assert check(sought, "log").ok
    assert check(LOGS["read-went-back"], "log", at_least_once=True).ok
    assert check(LOGS["duplicated-record"], "log", at_least_once=True).ok


def test_fresh_reads_find_what_was_acknowledged_before_them() -> None:
    appended = [(0, A, "a", 0), (0, A, "b", 1)]
    for rest in ([(1, R, 0, [])], [(1, R, 0, [[0, "a"]]), (1, R, 1, [])]):
        late = rows_of(*appended, *rest)
        assert check(late, "log").ok
        verdict = check(late, "log", fresh=True)
        assert (verdict.status, verdict.anomaly) == ("violated", "stale-read")
        assert [op.f for op in verdict.witness] == [A, R]
    for rest in ([(1, R, 2, [])], [(1, R, 0, [[0, "a"]])], [(1, R, None, [])]):
        assert check(rows_of(*appended, *rest), "log", fresh=True).ok
    assert check(rows_of((1, R, 0, []), *appended), "log", fresh=True).ok
    begun, found_nothing = (0, "invoke", A, None, "a"), (1, "ok", R, None, [])
    reads = (1, "invoke", R, None, 0)
    assert check(history(begun, reads, (0, "ok", A, None, 0), found_nothing), "log", fresh=True).ok
    assert check(history(begun, (0, "info", A, None, None), reads, found_nothing), "log", fresh=True).ok


def test_a_log_of_repeated_records_is_inconclusive_and_others_are_refused() -> None:
    assert check(rows_of((0, A, "a", 0), (0, A, "a", 1)), "log").status == "inconclusive"
    for row in [(0, "push", 1, None), (0, A, "a", "first"), (1, R, "here", []), (1, R, 0, [1]), (1, R, 0, 5)]:
        with pytest.raises(InvalidArgument, match="record 1"):
            check(rows_of(row), "log")


def a_log(fault: str = "", chance: float = 0.1) -> tuple[Callable[[Random], Any], Callable[..., Any]]:
    fresh = itertools.count()
    records: list[int | None] = []
    broken = Random(4)

    def apply(f: str, key: Any, argument: Any) -> tuple[bool, Any]:
        wrong = broken.random() < chance
        if f == A:
            if fault == "unsynced" and wrong and records:
                records.pop()  # a crash that lost the last record, which was acknowledged
            records.append(argument)
            if fault == "retried" and wrong:
                records.append(argument)
            place = len(records) - 1
            if fault == "swapped" and wrong and place:
                records[place], records[place - 1] = records[place - 1], records[place]
            return True, records.index(argument)
        seen = [[offset, value] for offset, value in enumerate(records) if offset >= argument]
        if fault == "skips" and wrong and len(seen) > 2:
            del seen[1]
        return True, seen

    def draw(random: Random) -> tuple[str, Any, Any]:
        return (A, None, next(fresh)) if random.random() < 0.5 else (R, None, random.randrange(4))

    return draw, apply


@pytest.mark.parametrize("seed", range(30))
def test_a_right_log_passes(seed: int) -> None:
    verdict = check(simulate(Random(seed), *a_log(), operations=60, unknown=0.1), "log", fresh=True)
    assert verdict.ok, str(verdict)


@pytest.mark.parametrize(
    ("fault", "anomalies"),
    [
        ("unsynced", {"inconsistent-offset", "duplicated-record"}),
        ("retried", {"duplicated-record"}),
        ("swapped", {"inconsistent-offset", "duplicated-record", "reordered-records"}),
        ("skips", {"lost-record"}),
    ],
)
def test_broken_logs_are_caught(fault: str, anomalies: set[str]) -> None:
    found = [check(simulate(Random(seed), *a_log(fault), operations=80), "log").anomaly for seed in range(20)]
    assert set(found) <= anomalies | {""}
    assert found.count("") <= 3
