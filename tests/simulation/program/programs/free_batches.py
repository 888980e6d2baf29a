"""`limited` with nodes that spend what they have as often as they like."""

from __future__ import annotations

from typing import Any

from limited import app

from coterie.resilience import shared_rate

__all__ = ["app"]

_spend = shared_rate.RateBinding._spend


def free(binding: Any, held: Any, units: int) -> bool:
    before: float = held.units
    spent = _spend(binding, held, units)
    if spent:
        held.units = before
    return spent


shared_rate.RateBinding._spend = free  # type: ignore[method-assign]
