"""How much may be under way at once: fixed, or learned from latency. Pure: time is an input.

`AdaptiveLimit` follows the gradient of the latency, as Netflix's concurrency-limits and TCP Vegas do
(Brakmo and Peterson, 1995): it compares what calls take now with what they take when they do not wait for
each other. While they are as fast as that the limit grows; when they are slower it shrinks in proportion.

What calls take alone cannot be seen while they wait. So every `probe_every_s` the limit is halved for two
samples, as BBR does (Cardwell et al., 2016): if calls get clearly faster by that, they did wait, and it is
halved again; otherwise what they take is the new measure.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from ..errors import InvalidConfiguration

__all__ = ["AdaptiveLimit", "AdaptiveLimitConfig", "check_limit"]

_HELPED = 0.75
"""Half as many under way made calls clearly faster: they took at most this part of the time."""
_SETTLED_AFTER = 10
"""The first probe comes after so many samples."""


class _Phase(enum.Enum):
    NORMAL = 0
    DRAIN = 1
    MEASURE = 2


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
    probe_every_s: float = 30.0
    """How often it is measured anew what calls take when they do not wait for each other."""
    backoff: float = 0.9
    """By what the limit is multiplied after a look at calls of which any was dropped or timed out."""

    def __post_init__(self) -> None:
        if not 1 <= self.lowest <= self.initial <= self.highest <= 1_000_000:
            raise InvalidConfiguration(
                f"the limits must have 1 <= lowest <= initial <= highest <= 1,000,000: {self}"
            )
        if self.tolerance < 1 or not 0 < self.smoothing <= 1 or not 0 < self.backoff < 1:
            raise InvalidConfiguration(f"not usable for an adaptive limit: {self}")
        if self.sample_s <= 0 or self.probe_every_s < self.sample_s or self.min_samples < 1:
            raise InvalidConfiguration(f"not usable for an adaptive limit: {self}")


def check_limit(limit: object) -> None:
    """Raise `InvalidConfiguration` if `limit` is a number, and none that can be a limit."""
    if isinstance(limit, int) and not 1 <= limit <= 1_000_000:
        raise InvalidConfiguration(f"limit must be between 1 and 1,000,000, not {limit}")


class AdaptiveLimit:
    """Learns how much may be under way at once. Each call that `admit` lets through ends in one `release`."""

    __slots__ = (
        "_busiest",
        "_config",
        "_drained_at",
        "_dropped",
        "_exact",
        "_phase",
        "_probe_at",
        "_samples",
        "_since",
        "_sum_s",
        "_unhindered_s",
        "limit",
        "under_way",
    )

    def __init__(self, config: AdaptiveLimitConfig | None = None, *, now: float = 0.0) -> None:
        self._config = config or AdaptiveLimitConfig()
        self.limit: int = self._config.initial
        self.under_way: int = 0
        self._exact = float(self.limit)
        self._unhindered_s = math.inf
        self._phase = _Phase.NORMAL
        self._probe_at = now + _SETTLED_AFTER * self._config.sample_s
        self._drained_at = now
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
        if self._dropped:
            self._move(self._exact * config.backoff)
        else:
            took_s = self._sum_s / self._samples
            if self._phase is not _Phase.NORMAL:
                self._probe(now, took_s)
            elif now >= self._probe_at:
                self._unhindered_s = took_s
                self._halve(now, took_s)
            else:
                self._follow(took_s)
        self._begin(now)

    def _follow(self, took_s: float) -> None:
        """Move the limit by what calls took in the last sample."""
        config = self._config
        self._unhindered_s = min(self._unhindered_s, took_s)
        acceptable_s = config.tolerance * self._unhindered_s
        gradient = max(0.5, acceptable_s / took_s) if took_s > acceptable_s else 1.0
        if gradient == 1.0 and self._busiest * 2 < self._exact:
            return  # A limit that is not nearly reached teaches nothing: do not grow.
        target = self._exact * gradient + math.sqrt(self._exact)
        self._move(self._exact + config.smoothing * (target - self._exact))

    def _probe(self, now: float, took_s: float) -> None:
        """Go on with a probe: those who were let in before it must leave first, then it is measured."""
        if self._phase is _Phase.DRAIN:
            if now >= self._drained_at:
                self._phase = _Phase.MEASURE
            return
        helped = took_s < _HELPED * self._unhindered_s
        self._unhindered_s = took_s
        if helped and self.limit > self._config.lowest:
            self._exact = float(self.limit)  # They did wait for each other: the old limit was too high.
            self._halve(now, took_s)
            return
        self._phase = _Phase.NORMAL
        self._probe_at = now + self._config.probe_every_s
        self._move(self._exact)

    def _halve(self, now: float, took_s: float) -> None:
        self._phase = _Phase.DRAIN
        self._drained_at = now + 2 * took_s
        self.limit = max(int(self._exact / 2), self._config.lowest)

    def _move(self, exact: float) -> None:
        self._exact = min(max(exact, self._config.lowest), self._config.highest)
        if self._phase is _Phase.NORMAL:
            self.limit = int(self._exact)
