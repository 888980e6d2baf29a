"""What `coterie jobs` reads: of what never ran, what runs, and what has lost its node."""

from __future__ import annotations

import asyncio

import msgspec
from coordination_place import Place, on, until

from coterie import App
from coterie.context import current
from coterie.coordination import Coordination, JobPolicy, Run, RunStatus
from coterie.coordination._ticks_machine import Record
from coterie.coordination.observe_jobs import JobState, job_states
from coterie.ports.store import Commit, Put
from coterie.testing import Cluster

encode = msgspec.msgpack.encode


async def states(app: App) -> dict[str, JobState]:
    here: Coordination = current().bindings[Coordination]
    return {state.job.name: state for state in await job_states(here, app.jobs.values())}


async def test_what_has_not_been_due_is_due_next() -> None:
    app = App("ticking")

    @app.every(86400)
    async def daily() -> None: ...

    async with Cluster(app, nodes=1) as cluster:

        async def known() -> bool:
            return (await states(app))["daily"].record is not None

        await until(known)
        state = (await states(app))["daily"]
        assert (state.history, state.running, state.counts) == ((), [], {})
        assert state.next_tick == daily.schedule.next_after(cluster.nodes[0].clock.time())


async def test_what_runs_is_told_from_what_has_lost_its_node() -> None:
    app, began = App("ticking"), asyncio.Event()

    @app.every(0.1, policy=JobPolicy(overlap="skip", missed="skip"))
    async def stuck() -> None:
        began.set()
        await asyncio.Event().wait()

    @app.every(0.1)
    async def ended() -> None: ...

    @app.every(0.1)
    async def fails() -> None:
        raise ValueError("not today")

    async def seen() -> bool:
        found = await states(app)
        kinds = {name: set(state.counts) for name, state in found.items()}
        return "skipped" in kinds["stuck"] and "done" in kinds["ended"] and "failed" in kinds["fails"]

    async with Cluster(app, nodes=1):
        await began.wait()
        await until(seen)
        state = (await states(app))["stuck"]
        (run,) = state.running
        assert (run.node, state.orphaned(run), state.counts["running"]) == ("ticking-1", False, 1)
        assert state.counts["skipped"] == len(state.history) - 1
        for other in state.history[1:]:
            assert (other.status, state.orphaned(other)) == (RunStatus.SKIPPED, False)


async def test_a_run_whose_node_is_gone_is_told_from_one_that_is_alive(place: Place) -> None:
    app = App("app")

    @app.every(10)
    async def work() -> None: ...

    async with on(place.node("a")) as here:
        runs = tuple(
            Run(tick=tick, status=RunStatus.RUNNING, node="b", started=tick) for tick in (10.0, 20.0)
        )
        record = Put(f"{work.prefix(here)}record", encode(Record(tick=25.0, runs=runs)))
        await here.store.commit(Commit((record, Put(f"{work.prefix(here)}alive/20.000000", b""))))
        state = (await states(app))["work"]
    assert [(run.tick, state.orphaned(run)) for run in state.running] == [(10.0, True), (20.0, False)]
    assert state.next_tick == 30.0
