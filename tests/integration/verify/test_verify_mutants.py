"""`verify` finds what is broken: one safeguard of an engine is taken away at a time."""

from __future__ import annotations

import pytest
from broken_stores import BROKEN, BrokenSystem

from coterie.verify import WORKLOADS, Report, Standing, VerifyConfig, verify
from coterie.verify.judge import PROGRESS


async def run(how: str, *workloads: str, time_s: float = 1.0, recovery_s: float = 30.0) -> Report:
    config = VerifyConfig(
        engine="memory:",
        workloads=workloads,
        faults=(),
        time_s=time_s,
        clients=6,
        rate_per_s=60,
        seed=11,
        recovery_s=recovery_s,
    )
    return await verify(config, system=BrokenSystem(how))


@pytest.mark.parametrize(
    ("how", "workload", "promise"),
    [
        ("stale-reads", "register", "linearizable"),
        ("stale-scans", "set", "no element lost"),
        ("dropped-writes", "register", "linearizable"),
        ("dropped-writes", "set", "no element lost"),
        ("dropped-writes", "append", "strict serializable"),
        ("torn-commits", "bank", "the total is conserved"),
        ("torn-commits", "append", "strict serializable"),
        ("unchecked", "append", "snapshot isolation"),
        ("unchecked", "bank", "the total is conserved"),
        ("false-outcomes", "register", "linearizable"),
        ("repeated-records", "log", "no record lost, repeated or out of order"),
        ("swallowed-records", "log", "no record lost, repeated or out of order"),
        ("late-readers", "log", "no record lost, repeated or out of order"),
        ("blind-readers", "log", "no record lost, repeated or out of order"),
    ],
)
async def test_what_is_broken_is_found(how: str, workload: str, promise: str) -> None:
    report = await run(how, workload, recovery_s=2)
    found = {j.promise.name: j.standing for j in report.judgements}
    assert found[promise] is Standing.BROKEN
    assert report.exit_code() == 1


async def test_a_lock_without_its_fence_is_found() -> None:
    report = await run("unfenced", "lock", time_s=3.5)
    found = {j.promise.name: j.standing for j in report.judgements}
    assert found["no write of a former holder"] is Standing.BROKEN
    assert report.exit_code() == 1


@pytest.mark.parametrize("workload", ["register", "bank"])
async def test_who_answers_reads_only_does_not_work_again(workload: str) -> None:
    report = await run("read-only", workload, time_s=1.5, recovery_s=0.5)
    found = {j.promise.name: j.standing for j in report.judgements}
    assert found[PROGRESS] is Standing.BROKEN
    assert report.exit_code() == 1


async def test_nothing_is_found_where_nothing_is_broken() -> None:
    report = await run("none", *WORKLOADS)
    assert report.broken == ()
    assert report.exit_code() == 0
    assert all(part.tally.counts["ok"] > 10 for part in report.parts)


def test_each_mutant_is_tried() -> None:
    tried = {
        mark.args[1][n][0]
        for mark in test_what_is_broken_is_found.pytestmark  # type: ignore[attr-defined]
        for n in range(len(mark.args[1]))
    }
    assert tried | {"unfenced", "read-only", "none"} == BROKEN.keys()
