"""Universes: judged, isolated, repeatable in other processes, and made small when they fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coterie.errors import InvalidArgument
from coterie.simulation import Edits
from coterie.simulation.faults import CLASSES, Plan, swarm
from coterie.simulation.forks import explore, run_forked
from coterie.simulation.nursery import Target, explore_pinned, run_pinned
from coterie.simulation.shrink import shrink
from coterie.simulation.tape import Tape
from coterie.simulation.universe import Request, Result, Settings, Verdict, run_universe

from . import scenarios

FILE = str(Path(__file__).parent / "scenarios.py")


def target(name: str, *arguments: Any) -> Target:
    return Target(f"{FILE}:{name}", arguments or None)


def pinned(name: str, count: int, **options: Any) -> dict[int, Result]:
    requests = [Request(seed=seed) for seed in range(count)]
    return {each.seed: each for each in explore_pinned(target(name), requests, jobs=2, **options)}


def test_results_say_what_came_of_a_universe() -> None:
    ok, violated, crashed, unknown = (
        run_universe(each, Request(seed=1))
        for each in (
            scenarios.all_is_well,
            scenarios.fails_an_assertion,
            scenarios.crashes,
            scenarios.says_nothing,
        )
    )
    assert (ok.verdict, ok.value, ok.message) == (Verdict.OK, "value", "")
    assert ok.time_s == pytest.approx(1, abs=0.01)
    assert ok.events > 0
    assert (violated.verdict, violated.message) == (Verdict.VIOLATED, "the time is not 1")
    assert "fails_an_assertion" in violated.promise
    assert (crashed.verdict, crashed.message) == (Verdict.CRASHED, "KeyError: 'missing'")
    assert "scenarios.py" in crashed.detail
    assert unknown.verdict is Verdict.INCONCLUSIVE
    there = run_universe(scenarios.fails_an_assertion_on_a_host, Request(seed=1))
    assert (there.verdict, there.message) == (Verdict.VIOLATED, "this is another host")


def test_a_universe_that_never_ends_in_virtual_time_is_ended() -> None:
    async def waits(world: Any) -> None:
        import asyncio

        while True:
            await asyncio.sleep(1)

    result = run_universe(waits, Request(seed=1), Settings(max_time_s=100))
    assert (result.verdict, result.promise) == (Verdict.CRASHED, "BudgetExhausted")


def test_forked_universes_are_isolated_and_do_not_take_the_parent_with_them() -> None:
    requests = [Request(seed=1)]
    assert run_forked(scenarios.dies, requests[0]).promise == "died"
    hung = run_forked(scenarios.hangs, requests[0], Settings(timeout_s=0.5))
    assert (hung.verdict, hung.promise) == (Verdict.CRASHED, "hung")
    ok = run_forked(scenarios.all_is_well, requests[0])
    assert (ok.verdict, ok.value, ok.output) == (Verdict.OK, "value", "printed\n")
    odd = run_forked(scenarios.returns_what_cannot_be_pickled, requests[0])
    assert (odd.verdict, odd.value) == (Verdict.OK, None)


def test_leaving_the_iterator_ends_what_is_under_way() -> None:
    results: Iterator[Result] = explore(
        scenarios.hangs, [Request(seed=seed) for seed in range(4)], Settings(timeout_s=0.3), jobs=2
    )
    assert next(results).promise == "hung"
    results.close()  # type: ignore[attr-defined]


def test_universes_are_the_same_in_every_nursery() -> None:
    first, second = pinned("noisy", 12), pinned("noisy", 12)
    assert {seed: each.digest for seed, each in first.items()} == {
        seed: each.digest for seed, each in second.items()
    }
    assert {each.verdict for each in first.values()} == {Verdict.OK}
    assert len({each.digest for each in first.values()}) == 12
    assert len({fired.kind for each in first.values() for fired in each.fired}) > 5


def test_the_hash_seed_is_pinned_in_a_nursery() -> None:
    first, second = (run_pinned(target("depends_on_the_hash_seed"), Request(seed=1)) for _ in range(2))
    assert first.value == second.value
    assert first.digest == second.digest


def test_a_target_may_be_made_by_a_function() -> None:
    assert run_pinned(target("made", "an answer"), Request(seed=1)).value == "an answer"


@pytest.mark.parametrize("name", ["nothing", f"{FILE}:nothing", "no_such_module:x", "no_such_file.py:x"])
def test_a_target_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"nothing|no_such"):
        run_pinned(Target(name), Request(seed=1))


@pytest.fixture(scope="module")
def failing() -> Result:
    for result in explore(scenarios.forgetful, (Request(seed=seed) for seed in range(500)), jobs=2):
        if result.verdict is Verdict.VIOLATED and len(result.fired) > 3:
            return result
    raise AssertionError("no universe has failed")


def test_a_failure_is_shrunk_to_the_one_fault_that_matters(failing: Result) -> None:
    assert (failing.promise, failing.message) == ("durable", "acknowledged increments are lost")
    shrunk = shrink(lambda request: run_forked(scenarios.forgetful, request), failing)
    assert shrunk.faults == 1
    assert shrunk.result.fired[0].kind in {"kill", "crash"}
    assert shrunk.result.promise == "durable"
    assert "db" in shrunk.result.fired[0].what
    again = run_forked(
        scenarios.forgetful,
        Request(seed=failing.seed, edits=Edits.from_json(shrunk.result.edits.to_json())),
    )
    assert again.digest == shrunk.result.digest
    assert again.fired == shrunk.result.fired


def test_shrinking_keeps_to_its_budget_and_to_the_promise(failing: Result) -> None:
    runs: list[Request] = []

    def never(request: Request) -> Result:
        runs.append(request)
        return run_universe(scenarios.fails_an_assertion, request)

    shrunk = shrink(never, failing, budget=7)
    assert shrunk.result == failing
    assert shrunk.runs == len(runs) == 7


def test_a_good_universe_is_not_shrunk() -> None:
    result = run_universe(scenarios.all_is_well, Request(seed=1))
    assert shrink(lambda request: result, result).runs == 0


def test_a_recording_does_not_change_what_happens(failing: Result) -> None:
    request = Request(seed=failing.seed, record=10_000)
    recorded = run_forked(scenarios.forgetful, request)
    assert recorded.digest == failing.digest
    kinds = {event.kind for event in recorded.record}
    assert {"packet", "start", "fault"} <= kinds
    assert not failing.record


def test_swarms_turn_about_half_of_the_classes_on() -> None:
    swarms = [swarm(Tape(seed)) for seed in range(200)]
    for name in CLASSES:
        assert 60 < sum(name in each for each in swarms) < 140
    assert swarm(Tape.recorded({})) == ()
    with pytest.raises(InvalidArgument, match="no class of faults called 'flood'"):
        swarm(Tape(1), ["flood"])


def test_plans_are_drawn_from_the_tape_and_calm_faults_do_not_happen() -> None:
    plans = [Plan.draw(Tape(seed), list(CLASSES), 60.0) for seed in range(100)]
    for plan in plans:
        assert [fault.at_s for fault in plan.faults] == sorted(fault.at_s for fault in plan.faults)
        for fault in plan.faults:
            assert 0 <= fault.at_s <= fault.at_s + fault.duration_s <= 60.0
    assert {fault.kind for plan in plans for fault in plan.faults} == set(CLASSES)
    plan = max(plans, key=lambda each: len(each.faults))
    seed = plans.index(plan)
    gone = plan.faults[0]
    rest = Plan.draw(Tape(seed, Edits().calm([gone.label])), list(CLASSES), 60.0)
    assert rest.faults == plan.faults[1:]
    assert Plan.draw(Tape(seed), [], 60.0).faults == ()
