"""Coterie's own nodes in simulation: the example shop keeps its books under faults."""

from __future__ import annotations

import sys
from pathlib import Path

from coterie.simulation import Request, Target, Verdict, explore_pinned

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"


def test_the_shop_keeps_its_books_under_faults() -> None:
    target = Target(f"{HERE / 'shop_scenario.py'}:shop", None, (str(EXAMPLES), *sys.path))
    results = list(explore_pinned(target, [Request(seed=seed) for seed in range(30)], jobs=2))
    for result in results:
        assert result.verdict is Verdict.OK, f"seed {result.seed}: {result.message}\n{result.detail}"
        assert result.value["sold"] > 0
    assert len({fired.kind for result in results for fired in result.fired}) >= 10
