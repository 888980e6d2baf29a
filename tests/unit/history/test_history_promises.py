"""Leases and fencing, banks and convergence: anomalies by hand, and broken systems."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from simulated import done, history, simulate

from coterie.errors import InvalidArgument
from coterie.history import History, Operation, check

# --- leases and fencing ---------------------------------------------------------------------------

PAUSED = done(
    (0, "acquire", None, None, 1),
    (0, "write", None, 1, None),
    (1, "acquire", None, None, 2),  # the lease of process 0, which is paused, has expired
    (1, "write", None, 2, None),
    (0, "write", None, 1, None),
    (0, "release", None, None, None),
    (1, "release", None, None, None),
)


def test_a_pause_past_the_lease_is_two_holders_unless_writes_are_fenced() -> None:
    assert check(PAUSED, "mutex").anomaly == "two-holders"
    assert check(PAUSED, "mutex", mode="lease").anomaly == "two-holders"
    verdict = check(PAUSED, "mutex", mode="fenced")
    assert verdict.anomaly == "stale-write"
    assert [op.argument for op in verdict.witness] == [2, 1]
    refused = [
        Operation(process=o.process, type="fail", f=o.f, time=o.time) if i == 9 else o
        for i, o in enumerate(PAUSED.operations)
    ]
    assert check(History(refused), "mutex", mode="fenced").ok


def test_a_holder_that_fell_silent_or_noticed_the_loss_is_no_second_holder() -> None:
    silent = done((0, "acquire", None, None, None), (1, "acquire", None, None, None))
    assert check(silent, "mutex").anomaly == "two-holders"
    assert check(silent, "mutex", mode="lease").ok
    noticed = done(
        (0, "acquire", None, None, None),
        (1, "acquire", None, None, None),
        (0, "lost", None, None, None),
        (1, "release", None, None, None),
    )
    assert check(noticed, "mutex").anomaly == "two-holders"
    assert check(noticed, "mutex", mode="lease").ok


def test_tokens_must_rise() -> None:
    def taken(*tokens: int) -> History:
        rows = [
            [(p, "acquire", None, None, t), (p, "release", None, None, None)] for p, t in enumerate(tokens)
        ]
        return done(*(row for pair in rows for row in pair))

    assert check(taken(1, 2, 9), "mutex").ok
    assert check(taken(1, 9, 2), "mutex").anomaly == "token-went-back"
    assert check(taken(1, 9, 9), "mutex").anomaly == "repeated-token"


def test_a_release_by_another_is_seen() -> None:
    rows = done((0, "acquire", None, None, None), (1, "release", None, None, None))
    assert check(rows, "mutex").anomaly == "unheld-release"


@pytest.mark.parametrize(
    "row", [(0, "acquire", None, None, "t"), (0, "write", None, "t", None), (0, "lock", None, None, None)]
)
def test_what_is_no_lock_is_refused(row: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidArgument, match="record 1"):
        check(done(row), "mutex")


def test_modes_are_named() -> None:
    with pytest.raises(InvalidArgument, match="expected lock, lease or fenced"):
        check([], "mutex", mode="soft")


# --- banks ----------------------------------------------------------------------------------------


def a_bank(*, fault: str = "", chance: float = 0.2) -> tuple[Callable[[Random], Any], Callable[..., Any]]:
    """A bank; `fault` is what it does wrong: `half` (reads between the two halves of a transfer),
    `twice` (a retry that is not idempotent) or `lost` (an acknowledged transfer is not made)."""
    balances = {"a": 50, "b": 50, "c": 50}
    broken = Random(7)
    torn: dict[str, int] = {}

    def apply(f: str, key: Any, argument: Any) -> tuple[bool, Any]:
        if f == "read":
            seen = {name: balance + torn.get(name, 0) for name, balance in balances.items()}
            torn.clear()
            return True, seen
        source, target, amount = argument["from"], argument["to"], argument["amount"]
        if balances[source] < amount:
            return False, None
        wrong = broken.random() < chance
        times = {"twice": 2, "lost": 0}.get(fault, 1) if wrong else 1
        balances[source] -= times * amount
        balances[target] += times * amount
        if wrong and fault == "half":
            torn[target] = -amount
        return True, None

    def draw(random: Random) -> tuple[str, Any, Any]:
        if random.random() < 0.5:
            return "read", None, None
        source, target = random.sample(["a", "b", "c"], 2)
        return "transfer", None, {"from": source, "to": target, "amount": random.randint(1, 5)}

    return draw, apply


BALANCES = {"a": 50, "b": 50, "c": 50}


@pytest.mark.parametrize("seed", range(30))
def test_a_right_bank_passes(seed: int) -> None:
    recorded = simulate(Random(seed), *a_bank(), operations=60, unknown=0.1)
    for options in ({}, {"total": 150}, {"initial": BALANCES}):
        verdict = check(recorded, "bank", **options)
        assert verdict.ok, str(verdict)


@pytest.mark.parametrize(
    ("fault", "anomaly"), [("half", "wrong-total"), ("twice", "wrong-balance"), ("lost", "wrong-balance")]
)
def test_a_broken_bank_is_caught(fault: str, anomaly: str) -> None:
    found = [
        check(simulate(Random(seed), *a_bank(fault=fault), operations=60), "bank", initial=BALANCES).anomaly
        for seed in range(20)
    ]
    assert set(found) <= {anomaly, "negative-balance"}
    assert found.count(anomaly) >= 15


def test_bank_anomalies_by_hand() -> None:
    start = (0, "read", None, None, {"a": 5, "b": 5})
    move = (0, "transfer", None, {"from": "a", "to": "b", "amount": 7}, None)
    assert check(done(start, (1, "read", None, None, {"a": 5, "b": 6})), "bank").anomaly == "wrong-total"
    after = (1, "read", None, None, {"a": -2, "b": 12})
    assert check(done(start, move, after), "bank").anomaly == "negative-balance"
    assert check(done(start, move, after), "bank", allow_negative=True).ok
    assert check(done(start, move, start), "bank").anomaly == "wrong-balance", "a lost transfer"
    other = (1, "read", None, None, {"a": 5, "b": 5, "z": 0})
    assert check(done(start, other), "bank", initial={"a": 5, "b": 5}).anomaly == "unknown-account"
    assert check(done(move), "bank").status == "inconclusive"
    with pytest.raises(InvalidArgument, match="record 1"):
        check(done((0, "transfer", None, {"from": "a", "amount": 1}, None)), "bank")
    with pytest.raises(InvalidArgument, match="record 1"):
        check(done((0, "read", None, None, [1, 2])), "bank")


# --- convergence ----------------------------------------------------------------------------------


def replicas(*answers: Any, time: int = 0) -> History:
    rows = [(0, "invoke", "write", "x", 1), (0, "ok", "write", "x", None)]
    for process, answer in enumerate(answers):
        rows += [(process, "invoke", "read", "x", None), (process, "ok", "read", "x", answer)]
    return history(*rows)


def test_replicas_that_agree_have_converged() -> None:
    assert check(replicas([1, 2], [1, 2], [1, 2]), "convergence").ok
    verdict = check(replicas([1, 2], [1, 2], [2, 1]), "convergence")
    assert verdict.anomaly == "diverged"
    assert len(verdict.witness) == 2


def test_one_reader_is_no_proof_of_convergence() -> None:
    assert check(replicas(1), "convergence").status == "inconclusive"
    assert check(replicas(), "convergence").status == "inconclusive"


def test_reads_before_the_last_update_or_its_settling_do_not_count() -> None:
    early = done(
        (0, "read", "x", None, 1),
        (1, "write", "x", 2, None),
        (0, "read", "x", None, 2),
        (1, "read", "x", None, 2),
    )
    assert check(early, "convergence").ok
    stale = done((1, "write", "x", 2, None), (0, "read", "x", None, 1), (1, "read", "x", None, 2))
    assert check(stale, "convergence").anomaly == "diverged"
    assert check(stale, "convergence", settle_s=3e-9).status == "inconclusive"
    with pytest.raises(InvalidArgument, match="settle_s"):
        check(stale, "convergence", settle_s=-1)


def test_without_times_the_order_of_the_records_counts() -> None:
    early = done(
        (0, "read", "x", None, 1),
        (1, "write", "x", 2, None),
        (0, "read", "x", None, 2),
        (1, "read", "x", None, 2),
    )
    timeless = [Operation(process=o.process, type=o.type, f=o.f, key=o.key, value=o.value) for o in early]
    assert check(timeless, "convergence").ok
