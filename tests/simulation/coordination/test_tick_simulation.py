"""Every tick of a daily job has its effect exactly once, over 10,000 days with crashes; and mutants."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie.simulation import Request, Target, Verdict, explore_pinned
from coterie.simulation.universe import Settings

FILE = Path(__file__).parent / "tick_scenarios.py"
LONG = Settings(max_time_s=2e9, max_events=50_000_000, timeout_s=240)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_tick_of_ten_thousand_days_has_its_effect_once() -> None:
    (result,) = explore_pinned(Target(f"{FILE}:ten_thousand_days"), [Request(seed=1)], LONG)
    assert result.verdict is Verdict.OK, f"{result.message}\n{result.detail}"
    assert result.value["days"] >= 10_000
    assert result.value["ticks"] >= result.value["days"]
    assert result.value["crashes"] > 1_500
    assert result.value["again"] > 20, "runs were cut off and run again"


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "mutant", ["unconditional", "crashed_runs_forgotten", "unfenced", "missed_are_forgotten"]
)
def test_a_missing_safeguard_is_found(mutant: str) -> None:
    requests = [Request(seed=seed) for seed in range(4)]
    found = explore_pinned(Target(f"{FILE}:mutated", (mutant,)), requests, LONG, jobs=2)
    try:
        assert any(result.verdict is Verdict.VIOLATED for result in found)
    finally:
        found.close()  # type: ignore[attr-defined]
