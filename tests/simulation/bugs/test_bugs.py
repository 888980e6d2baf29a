"""The classic bugs are found, are made small, and their repaired twins are not blamed.

A twin is run in 100 universes here. The promise is 2,000: COTERIE_UNIVERSES=2000 runs them all, which takes
minutes, and is to be done whenever the simulator, its faults or a checker changes.
"""

from __future__ import annotations

import os

import pytest

from coterie.simulation import Request, Verdict, run_pinned

from .catalogue import CLASSICS, MOST_UNIVERSES, PAGE, hunt, row, target, universes

UNIVERSES = int(os.environ.get("COTERIE_UNIVERSES", "100"))
MOST_FAULTS = 3
NAMES = [classic.name for classic in CLASSICS]


@pytest.mark.parametrize("name", NAMES)
def test_the_bug_is_found_and_made_small(name: str) -> None:
    found = hunt(name)
    smallest = found.shrunk.result
    print(
        f"{name}: seed {found.first.seed}, {found.universes} universes of at most {MOST_UNIVERSES},"
        f" {len(found.first.fired)} faults shrunk to {found.shrunk.faults}: {smallest.message}"
    )
    assert found.shrunk.faults <= MOST_FAULTS
    assert smallest.promise == found.first.promise
    request = Request(seed=smallest.seed, edits=smallest.edits)
    again = run_pinned(target(name, "broken"), request)
    assert (again.verdict, again.message) == (Verdict.VIOLATED, smallest.message)
    assert again.digest == smallest.digest, "the recipe does not replay elsewhere"
    twin = run_pinned(target(name, "repaired"), request)
    assert twin.verdict is Verdict.OK, f"the same recipe breaks the twin: {twin.message}"


@pytest.mark.slow
@pytest.mark.timeout(60 + UNIVERSES // 2)
@pytest.mark.parametrize("name", NAMES)
def test_the_repaired_twin_is_not_blamed(name: str) -> None:
    ran = fired = 0
    for result in universes(name, "repaired", UNIVERSES, jobs=2):
        ran += 1
        fired += len(result.fired)
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
    print(f"{name}: nothing found in {ran} universes with {fired} faults; the promise is 2,000")
    assert ran == UNIVERSES
    assert fired > ran  # What happened is worth the name of a test.


def test_every_classic_is_there() -> None:
    assert len(CLASSICS) == 11
    for classic in CLASSICS:
        assert ": " in classic.title, classic
        assert classic.repair, classic


def test_the_documentation_says_what_the_programs_say() -> None:
    """The recipes are those of one run; the rest is held against the docstrings."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| [`")]
    without_recipes = [[*line.split(" | ")[:2], line.split(" | ")[-1]] for line in rows]
    expected = [[*line.split(" | ")[:2], line.split(" | ")[-1]] for line in map(row, CLASSICS)]
    assert without_recipes == expected, "run python tests/simulation/bugs/catalogue.py"
