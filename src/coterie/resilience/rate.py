"""Rate limits for one process. Pure: time is an input.

Both allow `rate` per `per` seconds and a burst beyond it. The token bucket counts what is left; GCRA
(ITU-T I.371, the generic cell rate algorithm) keeps one number, the time at which the next unit would
be due, and can say exactly when to come back. They admit the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidConfiguration

__all__ = ["Gcra", "Rate", "TokenBucket", "grant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How much is allowed: `rate` units per `per` seconds on average, and at most `burst` at once."""

    rate: float
    per: float = 1.0
    burst: int = 1

    def __post_init__(self) -> None:
        if not (0 < self.rate < 1e9 and 0 < self.per <= 86400 * 366 and 1 <= self.burst <= 1_000_000_000):
            raise InvalidConfiguration(
                f"a rate needs rate > 0, per > 0 seconds and a burst of at least 1, not {self}"
            )

    @property
    def interval_s(self) -> float:
        """The time in which one unit is earned."""
        return self.per / self.rate


_AHEAD_S = 60.0
"""A time that lies further ahead than the burst and this much was written by a clock that was wrong."""


def grant(rate: Rate, due: float, now: float, *, least: int, most: int) -> tuple[int, float, float]:
    """Take `least` to `most` units from what is due next at `due`, as GCRA does.

    Returns how many were taken, the new `due`, and, if they were none, in how many seconds `least` can
    be had.
    """
    tolerance_s = rate.interval_s * rate.burst
    if due > now + tolerance_s + _AHEAD_S:
        due = now
    # Times are large and units small: what is left is worked out from the difference, and a thousandth of
    # a unit is forgiven.
    ahead_s = max(due - now, 0.0)
    units = min(int((tolerance_s - ahead_s) / rate.interval_s + 1e-3), most)
    if units < least:
        return 0, due, max(ahead_s + least * rate.interval_s - tolerance_s, 1e-6)
    return units, max(due, now) + units * rate.interval_s, 0.0


class TokenBucket:
    """Starts full with `burst` tokens; fills at the rate; a unit takes one."""

    __slots__ = ("_burst", "_per_s", "_since", "tokens")

    def __init__(self, rate: Rate, *, now: float = 0.0) -> None:
        self._per_s = rate.rate / rate.per
        self._burst = float(rate.burst)
        self._since = now
        self.tokens: float = float(rate.burst)

    def take(self, now: float, units: float = 1.0) -> bool:
        """Take `units` if they are there."""
        if now > self._since:
            self.tokens = min(self._burst, self.tokens + (now - self._since) * self._per_s)
            self._since = now
        if self.tokens < units:
            return False
        self.tokens -= units
        return True


class Gcra:
    """One number a key, and the exact time to come back."""

    __slots__ = ("_due", "_interval_s", "_tolerance_s")

    def __init__(self, rate: Rate) -> None:
        self._interval_s = rate.interval_s
        self._tolerance_s = rate.interval_s * rate.burst
        self._due = 0.0

    def wait_s(self, now: float, units: float = 1.0) -> float:
        """Take `units` and return 0, or take nothing and return in how many seconds they can be had.

        More units than the burst can never be had: infinity.
        """
        cost = units * self._interval_s
        if cost > self._tolerance_s * (1 + 1e-9):
            return float("inf")
        due = max(self._due, now) + cost
        # Sums of intervals are not exact in binary: a billionth of the burst is forgiven.
        over = due - now - self._tolerance_s * (1 + 1e-9)
        if over > 0:
            return over
        self._due = due
        return 0.0

    def idle_at(self) -> float:
        """Return when it will be as if nothing had ever been taken."""
        return self._due
