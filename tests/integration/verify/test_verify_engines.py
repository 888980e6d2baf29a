"""Real engines under faults keep what their adapters promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie.history import check, read_history
from coterie.verify import Report, Standing, VerifyConfig, verify
from coterie.verify.judge import PROGRESS

pytestmark = pytest.mark.slow


async def run(engine: str, folder: Path, *faults: str, **options: object) -> Report:
    chosen = {"time_s": 4, "clients": 4, "rate_per_s": 15, "seed": 3, **options}
    config = VerifyConfig(engine=engine, faults=faults, **chosen)  # type: ignore[arg-type]
    return await verify(config, histories=lambda name: folder / f"{name}.jsonl")


@pytest.mark.parametrize(
    ("engine", "members", "faults", "without"),
    [
        ("sqlite", 3, ("kill", "pause", "partition"), {"partition"}),
        ("redis", 1, ("kill", "pause"), set()),
        ("postgres", 1, ("kill", "pause"), set()),
        ("etcd", 3, ("kill", "pause", "partition"), {"log"}),
        ("nats", 3, ("pause", "partition"), set()),
    ],
)
async def test_an_engine_keeps_its_promises(
    engine: str, members: int, faults: tuple[str, ...], without: set[str], tmp_path: Path
) -> None:
    report = await run(engine, tmp_path, *faults, members=members)
    assert report.broken == ()
    assert report.exit_code() == 0
    assert report.trouble == ""
    assert report.left_out.keys() == without
    assert report.faults
    assert all(done.end_s is not None for done in report.faults)
    assert len(report.parts) == 6 - ("log" in without)
    for part in report.parts:
        assert part.tally.counts["ok"] > 10
        assert {j.promise.name: j.standing for j in part.judgements}[PROGRESS] is Standing.KEPT
        # What is kept is what was judged.
        assert part.path is not None
        promise = part.workload.promises[0]
        history = read_history(part.path)
        again = check(history, promise.model, **promise.options)
        assert again.status == part.judgements[0].verdict.status
        assert again.checked == part.judgements[0].verdict.checked
        told = [record.f for record in history if record.process == "nemesis"]
        assert sorted(told) == sorted(2 * [done.kind for done in report.faults])


async def test_a_running_engine_is_left_as_it_was(tmp_path: Path) -> None:
    from coterie import lab
    from coterie.engines.redis import open_engine
    from coterie.engines.system import SystemClock, SystemEntropy

    async with lab.start("redis") as cluster:
        report = await run(cluster.url, tmp_path, "kill", workloads=("set", "log"), time_s=1)
        assert report.exit_code() == 0
        assert report.faults == ()
        assert report.left_out == {"kill": "cannot be done to redis"}
        engine = await open_engine(cluster.url, clock=SystemClock(), entropy=SystemEntropy())
        try:
            assert (await engine.store.scan("")).entries == ()
            assert await engine.log.topics() == {}
        finally:
            await engine.close()
