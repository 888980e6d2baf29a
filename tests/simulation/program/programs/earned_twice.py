"""`limited` with a Store that takes half of what it gives."""

from __future__ import annotations

from typing import Any

from limited import app

from coterie.resilience import Rate, shared_rate
from coterie.resilience.rate import grant

__all__ = ["app"]


def twice(rate: Rate, due: float, now: float, **limits: Any) -> tuple[int, float, float]:
    return grant(Rate(rate=2 * rate.rate, per=rate.per, burst=rate.burst), due, now, **limits)


shared_rate.grant = twice  # type: ignore[attr-defined,assignment]
