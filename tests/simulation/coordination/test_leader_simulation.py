"""`@app.leader` and `app.election` in many universes: one leader per token, and soon; mutants."""

from __future__ import annotations

from pathlib import Path

import pytest
from leader_mutants import MUTANTS

from coterie.simulation import Request, Target, Verdict, explore_pinned

FILE = Path(__file__).parent / "leader_scenarios.py"


def seeds(count: int) -> list[Request]:
    return [Request(seed=seed) for seed in range(count)]


def test_a_new_leader_leads_within_a_lease_and_a_fifth() -> None:
    results = list(explore_pinned(Target(f"{FILE}:failover"), seeds(10), jobs=2))
    for result in results:
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
    assert max(result.value["worst_s"] for result in results) > 1.0


def test_without_faults_candidates_lead_in_the_order_in_which_they_came() -> None:
    for result in explore_pinned(Target(f"{FILE}:in_turn"), seeds(10), jobs=2):
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
        assert result.value["terms"] == 18


def test_a_leader_that_is_done_keeps_the_office() -> None:
    for result in explore_pinned(Target(f"{FILE}:done_once"), seeds(5), jobs=2):
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"


@pytest.mark.slow
def test_at_most_one_leader_acts_per_token_under_faults() -> None:
    results = list(explore_pinned(Target(f"{FILE}:under_faults"), seeds(60), jobs=2))
    for result in results:
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
        assert result.value["acts"] > 20
    assert max(result.value["terms"] for result in results) > 2
    assert sum(result.value["writes"] for result in results) > 300


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_missing_safeguard_is_found(mutant: str) -> None:
    found = explore_pinned(Target(f"{FILE}:mutated", (mutant,)), seeds(60), jobs=2)
    try:
        assert any(result.verdict is Verdict.VIOLATED for result in found)
    finally:
        found.close()  # type: ignore[attr-defined]


def test_every_mutant_is_named() -> None:
    assert len(MUTANTS) == 12
