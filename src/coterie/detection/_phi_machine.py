"""How surprising a silence is. Pure: time is an input.

Hayashibara, Défago, Yared and Katayama, "The φ Accrual Failure Detector" (SRDS 2004): from the times
between the last heartbeats follows how likely it is that the next one comes even later than now. φ is
that probability as a power of ten, negated: at φ = 1 one silence in ten is longer, at φ = 8 one in 10^8.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist

from ..errors import InvalidConfiguration

__all__ = ["PhiAccrual", "PhiConfig", "deviations_of"]

_FAR = 20.0
"""Beyond so many (scaled) deviations `erfc` is near underflow, and its expansion is exact enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhiConfig:
    """What is known of heartbeats before any has come, and how much of the past counts."""

    expected_s: float = 0.5
    """How often a heartbeat is sent."""
    window: int = 64
    """Of how many heartbeats the spacing is remembered."""
    least_deviation_s: float = 0.1
    """The standard deviation is taken to be at least this: a pause of a loop or a collector is no death."""
    longest_s: float = 4.0
    """A longer silence was an outage. It is not learned from, or the next outage would look normal."""

    def __post_init__(self) -> None:
        if not (0 < self.expected_s < self.longest_s and self.least_deviation_s > 0):
            raise InvalidConfiguration(
                f"0 < expected_s < longest_s and least_deviation_s > 0 must hold: not {self}"
            )
        if not 2 <= self.window <= 10_000:
            raise InvalidConfiguration(f"window must be from 2 to 10,000, not {self.window}")


class PhiAccrual:
    """The suspicion of one peer, by the heartbeats that came from it."""

    __slots__ = ("_config", "_gaps", "_last", "_squares", "_sum")

    def __init__(self, config: PhiConfig, now: float) -> None:
        self._config = config
        # As if two heartbeats had come as expected, with the deviation that Akka's detector begins with.
        early, late = config.expected_s * 0.75, config.expected_s * 1.25
        self._gaps: deque[float] = deque((early, late), maxlen=config.window)
        self._sum = early + late
        self._squares = early * early + late * late
        self._last = now

    @property
    def mean_s(self) -> float:
        """The usual time between two heartbeats."""
        return self._sum / len(self._gaps)

    @property
    def deviation_s(self) -> float:
        """The standard deviation of that time, at least what the configuration says."""
        variance = self._squares / len(self._gaps) - self.mean_s**2
        return max(math.sqrt(max(variance, 0.0)), self._config.least_deviation_s)

    def heartbeat(self, now: float) -> None:
        """Take in a heartbeat that came at `now`."""
        gap = max(now - self._last, 0.0)
        self._last = now
        if gap > self._config.longest_s:
            return
        gaps = self._gaps
        if len(gaps) == gaps.maxlen:
            old = gaps[0]
            self._sum -= old
            self._squares -= old * old
        gaps.append(gap)
        self._sum += gap
        self._squares += gap * gap

    def forgive(self, seconds: float, now: float) -> None:
        """Do not count `seconds` of silence, before `now`, in which this node itself could not listen."""
        self._last = min(self._last + seconds, now)

    def reaches(self, deviations: float) -> float:
        """Return when the silence will be longer than usual by so many standard deviations."""
        return self._last + self.mean_s + deviations * self.deviation_s

    def phi(self, now: float) -> float:
        """Return φ at `now`: 0 just after a heartbeat, and it only rises until the next one."""
        x = (now - self._last - self.mean_s) / (self.deviation_s * math.sqrt(2))
        if x < _FAR:
            return max(0.0, -math.log10(0.5 * math.erfc(x)))
        tail = 1 - 1 / (2 * x * x)
        return x * x / math.log(10) + math.log10(2 * x * math.sqrt(math.pi) / tail)


def deviations_of(phi: float) -> float:
    """Return after how many standard deviations beyond the usual a silence has that φ."""
    return -NormalDist().inv_cdf(10.0**-phi)
