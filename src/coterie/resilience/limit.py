"""How much may be under way at once: fixed, or learned from latency. Pure: time is an input.

`AdaptiveLimit` follows Netflix's concurrency-limits (the gradient of the latency): it compares what
calls take now with what they took in the long run. While they are as fast as ever the limit grows; when
they get slower, because they wait for each other, it shrinks in proportion (after Little's law, and TCP
Vegas: Brakmo and Peterson, 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InvalidConfiguration

__all__ = ["AdaptiveLimit", "AdaptiveLimitConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLimitConfig:
    """The bounds of an adaptive limit, and how quickly it moves."""

    initial: int = 32
    lowest: int = 4
    highest: int = 1024
    tolerance: float = 1.5
    """Latency up to this many times the usual one is no reason to shrink."""
    sample_s: float = 0.1
    """The limit is looked at anew no more often than this ..."""
    min_samples: int = 10
    """... and after no fewer calls."""
    smoothing: float = 0.2
    """How far one look moves the limit: 0 not at all, 1 all the way."""
    memory_s: float = 30.0
    """Over what time the usual latency is averaged."""
    backoff: float = 0.9
    """By what the limit is multiplied after a look at calls of which any was dropped or timed out."""

    def __post_init__(self) -> None:
        if not 1 <= self.lowest <= self.initial <= self.highest <= 1_000_000:
            raise InvalidConfiguration(
                f"the limits must have 1 <= lowest <= initial <= highest <= 1,000,000: {self}"
            )
        if self.tolerance < 1 or not 0 < self.smoothing <= 1 or not 0 < self.backoff < 1:
            raise InvalidConfiguration(f"not usable for an adaptive limit: {self}")
        if self.sample_s <= 0 or self.memory_s < self.sample_s or self.min_samples < 1:
            raise InvalidConfiguration(f"not usable for an adaptive limit: {self}")


class AdaptiveLimit:
    """Learns how much may be under way at once. Each call that `admit` lets through ends in one `release`."""

    __slots__ = (
        "_busiest",
        "_config",
        "_dropped",
        "_exact",
        "_samples",
        "_since",
        "_sum_s",
        "_usual_s",
        "limit",
        "under_way",
    )

    def __init__(self, config: AdaptiveLimitConfig | None = None, *, now: float = 0.0) -> None:
        self._config = config or AdaptiveLimitConfig()
        self.limit: int = self._config.initial
        self.under_way: int = 0
        self._exact = float(self.limit)
        self._usual_s = 0.0
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since = now
        self._samples = 0
        self._sum_s = 0.0
        self._dropped = False
        self._busiest = self.under_way

    def admit(self) -> bool:
        """Return whether one more may be under way, and count it if so."""
        if self.under_way >= self.limit:
            return False
        self.under_way += 1
        self._busiest = max(self._busiest, self.under_way)
        return True

    def release(self, now: float, took_s: float | None, *, dropped: bool = False) -> None:
        """End a call that took `took_s`, or None if that says nothing (cancelled, or refused at once).

        `dropped` says that it timed out or was shed further down: a sure sign of too much.
        """
        self.under_way -= 1
        if dropped:
            self._dropped = True
        elif took_s is not None:
            self._samples += 1
            self._sum_s += took_s
        if now - self._since >= self._config.sample_s and (
            self._dropped or self._samples >= self._config.min_samples
        ):
            self._look(now)

    def _look(self, now: float) -> None:
        config = self._config
        elapsed = now - self._since
        if self._dropped:
            exact = self._exact * config.backoff
        else:
            took_s = self._sum_s / self._samples
            usual_s = self._usual_s or took_s
            weight = 1 - math.exp(-elapsed / config.memory_s)
            usual_s += weight * (took_s - usual_s)
            # What was learned under overload is forgotten quickly once calls are fast again.
            self._usual_s = usual_s if took_s > usual_s / 2 else usual_s * 0.9
            gradient = min(1.0, max(0.5, config.tolerance * usual_s / took_s)) if took_s > 0 else 1.0
            if gradient == 1.0 and self._busiest * 2 < self._exact:
                exact = self._exact  # A limit that is not nearly reached teaches nothing: do not grow.
            else:
                target = self._exact * gradient + math.sqrt(self._exact)
                exact = self._exact + config.smoothing * (target - self._exact)
        self._exact = min(max(exact, config.lowest), config.highest)
        self.limit = int(self._exact)
        self._begin(now)
