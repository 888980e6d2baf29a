"""Detection among real nodes in universes of faults."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coterie.simulation import Request, Target, Verdict, explore_pinned

HERE = Path(__file__).parent


def verdicts(scenario: str, universes: int) -> list[tuple[Verdict, str]]:
    target = Target(f"{HERE / 'detection_scenarios.py'}:{scenario}", None, tuple(sys.path))
    found = explore_pinned(target, [Request(seed=seed) for seed in range(universes)], jobs=2)
    return [(result.verdict, f"seed {result.seed}: {result.message}\n{result.detail}") for result in found]


@pytest.mark.parametrize(
    ("scenario", "universes"),
    [("a_killed_node", 5), ("a_frozen_node", 5), ("cut_off_from_the_store", 3), ("weather", 12)],
)
def test_it_holds_in_every_universe(scenario: str, universes: int) -> None:
    for verdict, text in verdicts(scenario, universes):
        assert verdict is Verdict.OK, text


def test_a_suspicion_that_is_not_heeded_is_noticed() -> None:
    assert Verdict.VIOLATED in {verdict for verdict, _ in verdicts("a_frozen_node_that_nobody_avoids", 3)}
