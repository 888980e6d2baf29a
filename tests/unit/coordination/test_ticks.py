"""Schedules: which tick is next, what becomes of those that nobody ran, and one run of each on real nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from coordination_place import LEASE_S, Place, on, until

from coterie import App
from coterie.coordination import Coordination, Every, Job, JobPolicy, JobRunner, Lock, Run, RunStatus, Tick
from coterie.coordination._ticks_machine import Decided, Record, Wait, decide, finished
from coterie.coordination.schedule import _View
from coterie.coordination.session import Session
from coterie.errors import Fenced, InvalidConfiguration, Unavailable
from coterie.ports.store import Batch, Change, Commit
from coterie.testing import Cluster

TENS = Every(10)


def step(record: Record | None, now: float, alive: tuple[float, ...] = (), **policy: Any) -> Wait | Decided:
    chosen = JobPolicy(**{"grace_s": 5, **policy})
    return decide(TENS, chosen, record, set(alive), now=now, node="n")


def told(decided: Wait | Decided) -> list[tuple[float, str, int]]:
    assert isinstance(decided, Decided)
    return [(run.tick, run.status.value, run.count) for run in decided.record.runs]


def run_of(decided: Wait | Decided) -> Run | None:
    assert isinstance(decided, Decided)
    return decided.run


def test_ticks_from_before_the_first_start_were_never_due() -> None:
    first = step(None, 101.0)
    assert (told(first), run_of(first)) == ([], None)
    assert isinstance(first, Decided)
    assert step(first.record, 105.0) == Wait(110.0)


def test_a_tick_is_run_when_it_is_due_and_not_again() -> None:
    decided = step(Record(tick=101.0), 110.0)
    assert told(decided) == [(110.0, "running", 1)]
    assert isinstance(decided, Decided)
    assert step(decided.record, 112.0, alive=(110.0,)) == Wait(120.0)
    assert decided.run
    over = finished(decided.record, decided.run, 113.0, None)
    assert over is not None
    assert [run.status for run in over.runs] == [RunStatus.DONE]
    assert step(over, 114.0) == Wait(120.0)
    failed = finished(decided.record, decided.run, 113.0, "ValueError: no")
    assert failed is not None
    assert failed.runs[0].error == "ValueError: no"


@pytest.mark.parametrize(
    ("missed", "expected", "running"),
    [
        ("skip", [(140.0, "missed", 4)], None),
        ("latest", [(130.0, "missed", 3), (140.0, "running", 1)], 140.0),
        ("all", [(110.0, "running", 1)], 110.0),
    ],
)
def test_what_becomes_of_missed_ticks(missed: str, expected: Any, running: float | None) -> None:
    decided = step(Record(tick=101.0), 148.0, missed=missed)
    assert told(decided) == expected
    assert (None if run_of(decided) is None else run_of(decided).tick) == running  # type: ignore[union-attr]


@pytest.mark.parametrize("missed", ["skip", "latest"])
def test_a_tick_in_time_is_run_after_those_that_were_missed(missed: str) -> None:
    assert told(step(Record(tick=101.0), 142.0, missed=missed)) == [
        (130.0, "missed", 3),
        (140.0, "running", 1),
    ]


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_all_missed_ticks_are_run_one_after_the_other(overlap: str) -> None:
    record, ran = Record(tick=101.0), []
    while isinstance(decided := step(record, 142.0, missed="all", overlap=overlap), Decided):
        assert decided.run
        ran.append(decided.run.tick)
        if decided.run.tick < 130:
            during = step(decided.record, 142.0, (decided.run.tick,), missed="all", overlap=overlap)
            assert isinstance(during, Wait), "what was missed did not overlap with it"
        after = finished(decided.record, decided.run, 142.0, None)
        assert after
        record = after
    assert ran == [110.0, 120.0, 130.0, 140.0]


def test_what_becomes_of_a_tick_that_finds_another_run() -> None:
    record = Record(tick=110.0, runs=(Run(tick=110.0, status=RunStatus.RUNNING, node="m"),))
    busy = {"alive": (110.0,)}
    assert told(step(record, 121.0, overlap="skip", **busy))[1:] == [(120.0, "skipped", 1)]
    assert isinstance(step(record, 121.0, overlap="queue", **busy), Wait)
    assert told(step(record, 121.0, overlap="allow", **busy))[1:] == [(120.0, "running", 1)]
    over = finished(record, record.runs[0], 122.0, None)
    assert told(step(over, 122.0, overlap="queue"))[1:] == [(120.0, "running", 1)]


def test_what_becomes_of_a_run_whose_node_died() -> None:
    dead = Run(tick=110.0, status=RunStatus.RUNNING, node="m")
    record = Record(tick=110.0, runs=(dead,))
    again = run_of(step(record, 112.0))
    assert again is not None
    assert (again.tick, again.attempt, again.node) == (110.0, 2, "n")
    assert told(step(record, 112.0, crashed="leave")) == [(110.0, "crashed", 1)]
    tenth = Record(tick=110.0, runs=(Run(tick=110.0, status=RunStatus.RUNNING, attempt=10),))
    assert told(step(tenth, 112.0)) == [(110.0, "crashed", 1)]
    # The dead one comes back and wants to say that it is done: it is not its run any more.
    decided = step(record, 112.0)
    assert isinstance(decided, Decided)
    assert finished(decided.record, dead, 113.0, None) is None


def test_the_history_is_bounded_and_running_ones_stay_in_it() -> None:
    record: Record = Record(tick=0.0)
    slow = None
    for number in range(1, 200):
        alive = (10.0,) if slow else ()
        decided = step(record, number * 10.0, alive=alive, overlap="allow")
        assert isinstance(decided, Decided)
        assert decided.run
        if slow is None:
            slow, record = decided.run, decided.record
            continue
        after = finished(decided.record, decided.run, number * 10.0, None)
        assert after
        record = after
    assert slow in record.runs
    assert len(record.runs) <= 51


def test_nonsense_is_refused() -> None:
    app = App("ticking")
    for policy in ({"missed": "never"}, {"overlap": "yes"}, {"crashed": "no"}, {"grace_s": -1}):
        with pytest.raises(InvalidConfiguration, match=next(iter(policy))):
            JobPolicy(**policy)  # type: ignore[arg-type]

    async def takes_two(a: int, b: int) -> None: ...

    with pytest.raises(InvalidConfiguration, match="takes no parameters, or one"):
        app.every(5)(takes_two)

    async def tidy() -> None: ...

    app.cron("@daily")(tidy)
    with pytest.raises(InvalidConfiguration, match="two scheduled functions called 'tidy'"):
        app.every(5)(tidy)


async def test_each_tick_runs_once_in_the_cluster_also_when_nodes_die() -> None:
    app, runs = App("ticking"), []

    @app.every(0.1, policy=JobPolicy(missed="all", overlap="queue"))
    async def count(tick: Tick) -> None:
        runs.append(tick.due)

    async with Cluster(app, nodes=3, lease_s=1.0) as cluster:
        await until(lambda: len(runs) >= 5)
        await cluster.kill(0)
        await until(lambda: len(runs) >= 10)
        history = await count.history()
        assert {run.status for run in history} <= {RunStatus.DONE, RunStatus.RUNNING}
        assert [run.tick for run in history] == sorted({run.tick for run in history})
    assert len(set(runs)) == len(runs)
    assert all(b - a == pytest.approx(0.1, abs=1e-3) for a, b in pairwise(runs))


async def test_a_run_is_run_again_when_its_node_dies_and_the_dead_one_cannot_write() -> None:
    app = App("ticking")
    numbers = app.map("numbers", int)
    attempts: list[Tick] = []

    @app.every(0.5, policy=JobPolicy(overlap="skip", missed="skip", grace_s=60))
    async def work(tick: Tick) -> None:
        attempts.append(tick)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        await numbers.put("done", tick.attempt, fence=tick)

    async with Cluster(app, nodes=2, lease_s=1.0) as cluster:
        await until(lambda: attempts)
        (first,) = attempts
        (running,) = [run for run in await work.history() if run.status is RunStatus.RUNNING]
        await cluster.kill(next(n for n, node in enumerate(cluster.nodes) if node.name == running.node))
        await until(lambda: len(attempts) > 1)
        assert (attempts[1].due, attempts[1].attempt) == (first.due, 2)
        from coterie.context import CURRENT

        CURRENT.set(cluster.nodes[0].call)
        with pytest.raises(Fenced):
            await numbers.put("done", 99, fence=first)
        await until(lambda: numbers_done(numbers))


async def numbers_done(numbers: Any) -> bool:
    return await numbers.get("done") is not None


async def test_a_function_that_raises_is_written_down_and_runs_again_at_the_next_tick() -> None:
    app, runs = App("ticking"), []

    @app.every(0.1)
    async def fail() -> None:
        runs.append(1)
        raise ValueError("not today")

    async with Cluster(app, nodes=1):
        await until(lambda: len(runs) > 2)
        failed = [run for run in await fail.history() if run.status is RunStatus.FAILED]
        assert failed[0].error == "ValueError: not today"
    assert isinstance(fail, Job)
    with pytest.raises(ValueError, match="not today"):
        await fail()


class Runs:
    """What a schedule runs: it goes on until it is cancelled."""

    def __init__(self) -> None:
        self.attempts: list[int] = []

    async def work(self, tick: Tick) -> None:
        self.attempts.append(tick.attempt)
        await asyncio.Event().wait()

    @asynccontextmanager
    async def following(self, binding: Coordination) -> AsyncIterator[None]:
        runner = JobRunner(Job("work", self.work, Every(0.1), JobPolicy()), binding)
        following = asyncio.create_task(runner.follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_a_run_whose_lease_was_lost_while_it_was_decided_is_not_begun(place: Place) -> None:
    runs = Runs()
    commit = place.store.commit

    async def losing(wanted: Commit) -> int:
        revision = await commit(wanted)
        if any(put.lease for put in wanted.puts) and not lost:
            lost.append(await binding.queues.sessions.current())
            lost[0].lose("its lease was lost")
        return revision

    lost: list[Session] = []
    place.store.commit = losing  # type: ignore[method-assign]
    async with on(place.node()) as binding, runs.following(binding):
        await until(lambda: runs.attempts)
        assert runs.attempts == [2], "the first attempt is over as soon as it began"


async def test_a_run_is_not_taken_for_an_earlier_attempt_that_had_no_answer(place: Place) -> None:
    runs = Runs()
    commit = place.store.commit

    async def mute(wanted: Commit) -> int:
        revision = await commit(wanted)
        if any("/alive/" in put.key for put in wanted.puts) and not unanswered:
            unanswered.append(revision)
            raise Unavailable("no answer")
        return revision

    unanswered: list[int] = []
    place.store.commit = mute  # type: ignore[method-assign]
    # With a lock, so that the lease of the first attempt lives on.
    async with on(place.node()) as binding, Lock("y"), runs.following(binding):
        await until(lambda: runs.attempts)
        await asyncio.sleep(1.5 * LEASE_S)  # While it is renewed several times.
        assert runs.attempts == [2]


def test_a_snapshot_that_was_under_way_takes_back_nothing_that_this_node_wrote_since() -> None:
    encode = msgspec.msgpack.Encoder().encode
    run = Run(tick=10.0, status=RunStatus.RUNNING, node="a")
    mine = Record(tick=10.0, runs=(run,))
    view = _View(record=mine, version=7, alive={10.0: 7})
    for changes in ((), (Change("p/record", encode(Record(tick=0.0)), 5),)):
        view.apply(Batch(6, changes, snapshot=True), "p/")
        assert (view.record, view.version, view.alive) == (mine, 7, {10.0: 7})
    view.apply(Batch(8, (Change("p/record", encode(mine), 7),), snapshot=True), "p/")
    assert (view.record, view.alive) == (mine, {})
    view.apply(Batch(9, (), snapshot=True), "p/")
    assert view.record is None
