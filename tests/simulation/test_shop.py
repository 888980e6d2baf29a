"""Coterie's own nodes in simulation: the example shop keeps its books under faults, the same in every run."""

from __future__ import annotations

import sys
from pathlib import Path

from coterie.simulation import Request, Target, Verdict, explore_pinned

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"


def test_the_shop_keeps_its_books_and_every_universe_is_repeatable() -> None:
    target = Target(f"{HERE / 'shop_scenario.py'}:shop", None, (str(EXAMPLES), *sys.path))
    requests = [Request(seed=seed) for seed in range(20)]
    first, second = (
        {result.seed: result for result in explore_pinned(target, requests, jobs=2)} for _ in range(2)
    )
    for result in first.values():
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
        assert result.value["sold"] > 0
    assert {seed: result.digest for seed, result in first.items()} == {
        seed: result.digest for seed, result in second.items()
    }
    assert len({fired.kind for result in first.values() for fired in result.fired}) >= 10
