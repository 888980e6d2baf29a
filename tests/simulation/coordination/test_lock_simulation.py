"""Locks in many universes: exclusive by their fences, whatever happens; and mutants that are not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from coterie.simulation import Request, Target, Verdict, explore_pinned

FILE = Path(__file__).parent / "lock_scenarios.py"
MUTANTS = [
    element.elts[0].id
    for node in ast.walk(ast.parse(FILE.read_text()))
    if isinstance(node, ast.Tuple)
    for element in node.elts
    if isinstance(element, ast.Tuple) and isinstance(element.elts[0], ast.Name)
]


def seeds(count: int) -> list[Request]:
    return [Request(seed=seed) for seed in range(count)]


@pytest.mark.slow
def test_locks_exclude_by_their_fences_under_faults() -> None:
    results = list(explore_pinned(Target(f"{FILE}:under_faults"), seeds(40), jobs=2))
    for result in results:
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
        assert result.value["writes"] > 5
    assert len({fired.kind for result in results for fired in result.fired}) >= 8


def test_without_faults_locks_are_taken_in_the_order_of_asking() -> None:
    for result in explore_pinned(Target(f"{FILE}:calm"), seeds(10), jobs=2):
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
        assert result.value["taken"] == 18


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_missing_safeguard_is_found(mutant: str) -> None:
    found = explore_pinned(Target(f"{FILE}:mutated", (mutant,)), seeds(60), jobs=2)
    try:
        assert any(result.verdict is Verdict.VIOLATED for result in found)
    finally:
        found.close()  # type: ignore[attr-defined]


def test_every_mutant_is_named() -> None:
    assert len(MUTANTS) == 8
