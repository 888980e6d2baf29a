"""From a configuration to a report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from ..history import History, Operation, write_history
from .config import VerifyConfig
from .judge import judge, judge_progress
from .nemesis import Done
from .plan import Fault
from .report import Part, Report
from .run import Run
from .session import Open, open_port
from .systems import System, system_for
from .tally import Tally

__all__ = ["verify"]


async def verify(
    config: VerifyConfig,
    *,
    system: System | None = None,
    opener: Open | None = None,
    plan: Sequence[Fault] | None = None,
    histories: Callable[[str], Path] | None = None,
    watch: Callable[[Run], None] | None = None,
) -> Report:
    """Run and judge; everything that was started has ended when it returns or raises.

    `system` and `opener` replace what `config` names, and `plan` the faults that follow from its seed, for
    tests of one's own. `histories` says where the history of a workload is kept. `watch` is given the run
    as soon as there is one.

    Raises:
        InvalidArgument: the configuration names what there is not.
        LabError: the system does not start.
        Unavailable: it cannot be opened.
    """
    under_test = system or system_for(config)
    if opener is None:
        opener = _raw(config) if config.raw else open_port
    async with under_test as up:
        run = Run(config, up, opener, plan)
        if watch is not None:
            watch(run)
        await run.carry_out()
        elapsed_s = run.now()
    # The judging can take seconds, and whoever waits for the end of the run should see that it goes on.
    run.phase = "judging"
    return await asyncio.to_thread(_judge, run, elapsed_s, histories)


def _raw(config: VerifyConfig) -> Open:
    from .targets.raw import open_raw  # client libraries are imported only if they are used

    return open_raw(config)


def _judge(run: Run, elapsed_s: float, histories: Callable[[str], Path] | None) -> Report:
    assert run.terms is not None  # noqa: S101 - a run that was carried out has opened the system
    kinds = {done.kind for done in run.faults if done.happened}
    parts = []
    for crew in run.crews:
        history = crew.recorder.history
        path = None if histories is None else histories(crew.workload.name)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The history that is judged is the one that is kept, so that lines can be named.
            history = _with_faults(history, run.faults)
            write_history(path, history)
        judgements = judge(crew.workload, history, run.terms, kinds)
        if not run.interrupted:
            judgements.append(
                judge_progress(crew.workload.name, crew.stuck, run.config.recovery_s, run.terms, kinds)
            )
        parts.append(
            Part(
                workload=crew.workload,
                history=history,
                tally=Tally.of(history.intervals, until_s=elapsed_s, worked_s=run.worked_s),
                judgements=tuple(judgements),
                recovered_s=crew.recovered_s,
                path=path,
            )
        )
    return Report(
        config=run.config,
        engine=run.system.name,
        version=run.system.version,
        origin=run.system.origin,
        members=0 if run.system.victim is None else run.system.victim.size,
        terms=run.terms,
        plan=run.plan,
        faults=tuple(run.faults),
        parts=tuple(parts),
        left_out=run.left_out,
        elapsed_s=elapsed_s,
        worked_s=run.worked_s,
        interrupted=run.interrupted,
        trouble=run.trouble,
    )


def _with_faults(history: History, faults: Sequence[Done]) -> History:
    """Add the faults as records of a process that the checkers leave out, as Jepsen's do."""
    told = [
        Operation(process="nemesis", type="info", f=done.kind, value=str(done), time=int(moment_s * 1e9))
        for done in faults
        for moment_s in (done.start_s, done.end_s)
        if moment_s is not None
    ]
    # Stable: the records of the history keep their order, which is the real-time order.
    return History(sorted([*history, *told], key=lambda record: record.time))
