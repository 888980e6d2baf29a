"""Shrinking, on universes that are made up: which faults and which noise it takes is known."""

from __future__ import annotations

from collections.abc import Callable

from coterie.simulation import Edits, Request, Result, Shrunk, Verdict, shrink
from coterie.simulation.faults import Fired

FAULTS = ("fault/0", "fault/1", "fault/2", "fault/3")
NOISE = ("link/a>b", "link/b>a", "disk/a")


def shrunk_by(breaks: Callable[[frozenset[str]], bool], budget: int = 200) -> Shrunk:
    """Shrink a universe that is violated if `breaks` says so of the streams that are not calm."""

    def run(request: Request) -> Result:
        active = frozenset(label for label in (*FAULTS, *NOISE) if request.edits.find(label) is None)
        # A fault of which some draws are calm happens all the same.
        happens = [
            label for label in FAULTS if (e := request.edits.find(label)) is None or e.calm_from is None
        ]
        return Result(
            seed=request.seed,
            edits=request.edits,
            verdict=Verdict.VIOLATED if breaks(active | frozenset(happens)) else Verdict.OK,
            promise="promise",
            fired=tuple(Fired(label, "kill", 0.0, 1.0, label) for label in happens),
            labels=(*FAULTS, *NOISE),
        )

    return shrink(run, run(Request(seed=1, edits=Edits())), budget=budget)


def labels(shrunk: Shrunk) -> set[str]:
    return {fired.label for fired in shrunk.result.fired}


def test_only_the_faults_that_matter_are_left() -> None:
    assert labels(shrunk_by(lambda active: {"fault/1", "fault/3"} <= active)) == {"fault/1", "fault/3"}


def test_a_fault_that_only_moves_what_links_draw_is_removed_with_the_links_noise() -> None:
    def breaks(active: frozenset[str]) -> bool:
        # Neither fault 0 nor the noise of the link can go alone, and the disk's noise has to stay.
        return {"fault/1", "disk/a"} <= active and ("fault/0" in active) == ("link/a>b" in active)

    shrunk = shrunk_by(breaks)
    assert labels(shrunk) == {"fault/1"}


def test_the_budget_holds_to_the_end() -> None:
    for budget in range(30):
        assert shrunk_by(lambda active: "fault/2" in active, budget).runs <= budget
