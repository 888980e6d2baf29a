"""`@app.leader` in many universes: one leader per token, and the next one soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie.simulation import Request, Target, Verdict, explore_pinned

FILE = Path(__file__).parent / "leader_scenarios.py"


def test_a_new_leader_leads_within_a_lease_and_a_fifth() -> None:
    results = list(explore_pinned(Target(f"{FILE}:failover"), [Request(seed=n) for n in range(10)], jobs=2))
    for result in results:
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
    assert max(result.value["worst_s"] for result in results) > 1.0


@pytest.mark.slow
def test_at_most_one_leader_acts_per_token_under_faults() -> None:
    results = list(
        explore_pinned(Target(f"{FILE}:under_faults"), [Request(seed=n) for n in range(30)], jobs=2)
    )
    for result in results:
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
        assert result.value["acts"] > 20
    assert max(result.value["terms"] for result in results) > 2
