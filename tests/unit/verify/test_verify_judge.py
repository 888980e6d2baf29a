"""What a violation means, given what was promised."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from coterie.history import History, Operation
from coterie.ports import Consistency, Durability
from coterie.verify import WORKLOADS, Standing
from coterie.verify.judge import judge, judge_progress
from coterie.verify.targets.common import UNFENCED
from coterie.verify.terms import Terms

FULL = Terms(store_durability=Durability.MACHINE_LOSS, log_durability=Durability.MACHINE_LOSS)
SYNCED = Terms(store_durability=Durability.POWER_LOSS, log_durability=Durability.POWER_LOSS)
VOLATILE = Terms(store_durability=Durability.NONE, log_durability=Durability.POWER_LOSS)


def history(*operations: tuple[str, str, object]) -> History:
    """Return operations one after the other, each by a process of its own, all of one key."""
    records = []
    for number, (f, argument, result) in enumerate(operations):
        value = argument or None
        records.append(Operation(process=number, type="invoke", f=f, key="k", value=value, time=2 * number))
        records.append(Operation(process=number, type="ok", f=f, key="k", value=result, time=2 * number + 1))
    return History(records)


GOOD = history(("add", "1", None), ("read", "", ["1"]))
LOST = history(("add", "1", None), ("read", "", []))


@pytest.mark.parametrize(
    ("recorded", "terms", "faults", "standing"),
    [
        (GOOD, FULL, {"kill", "failover"}, Standing.KEPT),
        (LOST, FULL, {"kill", "failover"}, Standing.BROKEN),
        (LOST, SYNCED, {"kill", "restart"}, Standing.BROKEN),
        (LOST, SYNCED, {"failover"}, Standing.OBSERVED),
        (GOOD, SYNCED, {"failover"}, Standing.NOT_OBSERVED),
        (LOST, VOLATILE, {"kill"}, Standing.OBSERVED),
        (LOST, VOLATILE, {"restart"}, Standing.OBSERVED),
        (LOST, VOLATILE, {"pause", "partition"}, Standing.BROKEN),
        (LOST, replace(FULL, consistency=Consistency.SEQUENTIAL), set(), Standing.OBSERVED),
    ],
)
def test_what_a_loss_means_depends_on_what_is_promised(
    recorded: History, terms: Terms, faults: set[str], standing: Standing
) -> None:
    [judgement] = judge(WORKLOADS["set"], recorded, terms, faults)
    assert judgement.standing is standing
    assert bool(judgement.why_not) is (standing in {Standing.OBSERVED, Standing.NOT_OBSERVED})


def test_the_log_has_a_durability_of_its_own() -> None:
    lost = history(("append", "1", 5), ("append", "2", 6), ("read", "", [[4, "x"]]))
    [judgement] = judge(WORKLOADS["log"], lost, VOLATILE, {"kill"})
    assert judgement.standing is Standing.BROKEN


def test_a_reason_names_the_fault_and_what_it_would_take() -> None:
    why = SYNCED.why_not("set", WORKLOADS["set"].promises[0], {"failover"})
    assert why == "failover: writes outlive power loss here, not machine loss"


def txns(*values: list[list[object]]) -> History:
    """Return transactions that all begin before any ends."""
    begun = [
        Operation(
            process=number,
            type="invoke",
            f="txn",
            value=[[f, key, value if f == "append" else None] for f, key, value in steps],
        )
        for number, steps in enumerate(values)
    ]
    ended = [
        Operation(process=number, type="ok", f="txn", value=steps) for number, steps in enumerate(values)
    ]
    return History([*begun, *ended])


SKEW = txns(
    [["r", "x", []], ["append", "y", 1]],
    [["r", "y", []], ["append", "x", 2]],
    [["r", "x", [2]], ["r", "y", [1]]],
)


def test_a_weaker_isolation_is_kept_where_a_stronger_one_is_not() -> None:
    exceptions = {("append", level): "snapshots only" for level in ("strict serializable", "serializable")}
    judgements = judge(WORKLOADS["append"], SKEW, replace(FULL, exceptions=exceptions), ())
    assert [(j.promise.name, j.standing) for j in judgements] == [
        ("strict serializable", Standing.OBSERVED),
        ("serializable", Standing.OBSERVED),
        ("snapshot isolation", Standing.KEPT),
        ("read committed", Standing.KEPT),
    ]
    assert judgements[1].verdict.anomaly == "G2"


def held_twice(late_write: str) -> History:
    """Return a lock whose first holder writes after the second has: accepted or refused."""

    def record(process: str, type_: str, f: str, value: int | None = None) -> Operation:
        return Operation(process=process, type=type_, f=f, key="x", value=value)  # type: ignore[arg-type]

    return History(
        [
            record("a", "invoke", "acquire"),
            record("a", "ok", "acquire", 1),
            record("b", "invoke", "acquire"),
            record("b", "ok", "acquire", 2),
            record("b", "invoke", "write", 2),
            record("b", "ok", "write"),
            record("a", "invoke", "write", 1),
            record("a", late_write, "write"),
            record("b", "invoke", "release"),
            record("b", "ok", "release"),
        ]
    )


def test_two_holders_are_nobodys_fault_but_the_write_of_a_former_one_is() -> None:
    standings = [j.standing for j in judge(WORKLOADS["lock"], held_twice("fail"), FULL, ())]
    assert standings == [Standing.OBSERVED, Standing.KEPT]
    standings = [j.standing for j in judge(WORKLOADS["lock"], held_twice("ok"), FULL, ())]
    assert standings == [Standing.OBSERVED, Standing.BROKEN]
    unfenced = replace(FULL, exceptions=UNFENCED)
    standings = [j.standing for j in judge(WORKLOADS["lock"], held_twice("ok"), unfenced, ())]
    assert standings == [Standing.OBSERVED, Standing.OBSERVED]


def test_each_exception_names_a_promise_that_there_is() -> None:
    from coterie.verify.targets import nats, postgres

    promises = {(name, promise.name) for name, workload in WORKLOADS.items() for promise in workload.promises}
    named = [UNFENCED, nats.EXCEPTIONS]
    named += [
        postgres.exceptions_at(level) for level in ("serializable", "repeatable read", "read committed")
    ]
    for exceptions in named:
        assert exceptions.keys() <= promises


def test_a_client_that_is_stuck_breaks_the_promise_of_progress() -> None:
    assert judge_progress("set", [], 30, FULL, {"kill"}).standing is Standing.KEPT
    judgement = judge_progress("set", ["set-3", "set-1"], 30, SYNCED, {"kill", "failover"})
    assert judgement.standing is Standing.BROKEN
    assert "set-1, set-3" in judgement.verdict.sentence


def test_who_forgets_all_at_a_crash_need_not_go_on() -> None:
    assert judge_progress("set", ["set-1"], 30, VOLATILE, {"kill"}).standing is Standing.OBSERVED
    assert judge_progress("set", ["set-1"], 30, VOLATILE, {"pause"}).standing is Standing.BROKEN


def test_nothing_decided_is_not_kept() -> None:
    failed = History(
        [Operation(process=0, type=type_, f="add", key="k", value=1) for type_ in ("invoke", "fail")]
    )
    for recorded in (History([]), failed):
        [judgement] = judge(WORKLOADS["set"], recorded, FULL, ())
        assert judgement.standing is Standing.UNDECIDED


def refused(f: str, value: object) -> list[Operation]:
    return [Operation(process="r", type=type_, f=f, key="k", value=value) for type_ in ("invoke", "fail")]


MOVE = {"from": "a", "to": "b", "amount": 1}
BALANCES = dict.fromkeys("abcde", 100)


@pytest.mark.parametrize(
    ("workload", "answered", "failed", "never"),
    [
        ("register", history(("read", "", None)), refused("write", 1), "no write"),
        ("register", history(("write", "1", None)), [], "no read"),
        ("set", history(("read", "", [])), refused("add", 1), "no add"),
        ("set", history(("add", "1", None)), [], "no read"),
        ("log", history(("read", "", [])), refused("append", 1), "no append and no read"),
        ("log", history(("append", "1", 5)), [], "no read"),
        ("bank", history(("read", "", BALANCES)), refused("transfer", MOVE), "no transfer"),
        ("append", history(("txn", "x", [["r", "x", []]])), [], "no append"),
        ("append", history(("txn", "x", [["append", "x", 1]])), [], "no read"),
        ("lock", history(("acquire", "", 1)), refused("write", 1), "no write"),
    ],
)
def test_where_nothing_could_have_shown_a_violation_nothing_is_kept(
    workload: str, answered: History, failed: list[Operation], never: str
) -> None:
    for judgement in judge(WORKLOADS[workload], History([*answered, *with_time(answered, failed)]), FULL, ()):
        assert judgement.standing is Standing.UNDECIDED
        assert judgement.verdict.sentence == f"{never} succeeded, so there is nothing to judge"


def with_time(before: History, operations: list[Operation]) -> list[Operation]:
    last = before.operations[-1].time
    return [msgspec.structs.replace(operation, time=last) for operation in operations]


def test_a_violation_is_told_though_nothing_was_acknowledged() -> None:
    seen = history(("read", "", ["1"]))
    recorded = History([*refused("add", "1"), *seen])
    [judgement] = judge(WORKLOADS["set"], recorded, FULL, ())
    assert judgement.standing is Standing.BROKEN
    assert judgement.verdict.anomaly == "aborted-read"
