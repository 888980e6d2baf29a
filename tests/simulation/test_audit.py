"""The audit of determinism: many universes twice, out of different interpreters, with equal traces."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coterie.simulation import Target
from coterie.simulation.audit import audit
from coterie.simulation.program import Trial

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "seeds"),
    [("scenarios.py:noisy", 60), ("scenarios.py:forgetful", 30), ("shop_scenario.py:shop", 20)],
)
def test_every_seed_does_the_same_twice(scenario: str, seeds: int) -> None:
    target = Target(str(HERE / scenario), None, (str(EXAMPLES), *sys.path))
    assert [str(each) for each in audit(target, range(seeds), jobs=2)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "seeds"), [("shop:app", 8), ("counters:keyed", 3), ("coordinated:locked", 3)]
)
def test_every_trial_of_an_app_does_the_same_twice(app: str, seeds: int) -> None:
    path = (str(EXAMPLES), str(HERE / "program" / "programs"), *sys.path)
    trial = Trial(app=app, duration_s=30.0)
    target = Target("coterie.simulation.program.scenario:scenario", (trial,), path)
    assert [str(each) for each in audit(target, range(seeds), jobs=2)] == []


@pytest.mark.parametrize("scenario", ["reads_a_real_clock", "sends_an_address"])
def test_what_escapes_is_found(scenario: str) -> None:
    (found,) = audit(Target(str(HERE / f"scenarios.py:{scenario}")), [7])
    assert found.first.digest != found.second.digest
    assert "seed 7 differs" in str(found)
