"""What is known of engines is found again, and is told as what nobody promised."""

from __future__ import annotations

import pytest

from coterie.verify import Fault, Judgement, Report, Standing, VerifyConfig, verify

pytestmark = pytest.mark.slow


async def run(engine: str, workload: str, **options: object) -> Report:
    config = VerifyConfig(engine=engine, workloads=(workload,), seed=5, **options)  # type: ignore[arg-type]
    return await verify(config)


def of(report: Report, promise: str) -> Judgement:
    return next(j for j in report.judgements if j.promise.name == promise)


async def test_repeatable_read_lets_write_skew_through() -> None:
    report = await run(
        "postgres",
        "append",
        members=1,
        faults=(),
        raw=True,
        isolation="repeatable read",
        time_s=3,
        rate_per_s=60,
    )
    skew = of(report, "serializable")
    assert (skew.standing, skew.verdict.anomaly) == (Standing.OBSERVED, "G2")
    assert "write skew" in skew.why_not
    assert of(report, "snapshot isolation").standing is Standing.KEPT
    assert (report.exit_code(), report.exit_code(strict=True)) == (0, 1)


async def test_redis_loses_acknowledged_writes_when_a_replica_is_promoted() -> None:
    config = VerifyConfig(engine="redis", workloads=("set",), faults=("failover",), time_s=3.5, rate_per_s=30)
    failover = Fault(kind="failover", aim="leader", at_s=0.5, duration_s=1.0)
    report = await verify(config, plan=[failover])
    lost = of(report, "no element lost")
    assert lost.standing is Standing.OBSERVED
    assert lost.verdict.anomaly in {"vanished-element", "lost-element", "stale-read"}
    assert lost.why_not.startswith("failover: writes outlive power loss here")
    assert "promoting a replica loses acknowledged writes" in " ".join(report.terms.notes)
    assert (report.exit_code(), report.exit_code(strict=True)) == (0, 1)


def lateness(report: Report, raw: bool) -> bool:
    """Return whether a holder wrote when another had the lock, or with a fence was refused."""
    if raw:
        return not of(report, "no write of a former holder").verdict.ok
    return report.parts[0].tally.errors["Fenced"] > 0


@pytest.mark.parametrize("raw", [True, False], ids=["plain", "fenced"])
async def test_a_lock_of_etcd_needs_its_fence(raw: bool) -> None:
    # Whether somebody is late while another holds the lock is up to the machine, in each run anew.
    for seed in range(4):
        config = VerifyConfig(
            engine="etcd",
            workloads=("lock",),
            members=1,
            faults=(),
            raw=raw,
            time_s=5,
            rate_per_s=30,
            seed=seed,
        )
        report = await verify(config)
        former = of(report, "no write of a former holder")
        assert former.standing is not Standing.BROKEN
        if lateness(report, raw):
            break
    else:
        pytest.fail("nobody was late in four runs")
    if raw:
        assert (former.standing, former.verdict.anomaly) == (Standing.OBSERVED, "stale-write")
        assert "no fence" in former.why_not
    else:
        assert former.standing is Standing.KEPT


async def test_direct_get_reads_from_replicas_that_lag() -> None:
    # Each member is cut off from the others for a moment, and not from its clients. At most one of them
    # leads the bucket; the others go on to answer, with what they have.
    cuts = [
        Fault(kind="partition", cut="alone", aim=str(member), at_s=0.5 + 1.5 * member, duration_s=1.0)
        for member in range(3)
    ]
    for seed in range(4):  # Whom clients ask is up to nats-py, and where a leader is, to the servers.
        config = VerifyConfig(
            engine="nats",
            workloads=("register",),
            faults=("partition",),
            raw=True,
            time_s=5,
            rate_per_s=40,
            seed=seed,
        )
        stale = of(await verify(config, plan=cuts), "linearizable")
        if stale.standing is Standing.OBSERVED:
            break
    assert stale.standing is Standing.OBSERVED
    assert "Direct Get" in stale.why_not
