"""Retries: when, after what pause, and how many a caller may spend in all. Pure: time and chance are inputs.

Sources: Brooker, "Exponential Backoff and Jitter" (AWS, 2015) for full jitter; "Handling Overload" in
Beyer et al., "Site Reliability Engineering" (2016), for budgets as a ratio of the traffic; Bronson et
al., "Metastable Failures in Distributed Systems" (HotOS 2021), for what happens without.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CoterieError, InvalidConfiguration, Outcome, Overloaded, Unavailable

__all__ = ["Retry", "RetryBudget", "RetryBudgetConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetConfig:
    """How much of the traffic may be repeats."""

    ratio: float = 0.1
    """Repeats per first attempt, in the long run: 0.1 adds at most a tenth to a failing service's load."""
    floor_per_s: float = 1.0
    """Repeats a second that are always allowed, so that a caller with little traffic may repeat as well."""
    burst: float = 20.0
    """Repeats that may be saved up."""

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 10 or self.floor_per_s < 0 or self.burst < 1:
            raise InvalidConfiguration(
                f"a retry budget has a ratio of 0 to 10, a floor from 0 and a burst from 1: {self}"
            )


class RetryBudget:
    """Counts what may be repeated: each first attempt adds a fraction, each repeat takes one."""

    __slots__ = ("_burst", "_floor", "_ratio", "_since", "saved")

    def __init__(self, config: RetryBudgetConfig | None = None, *, now: float = 0.0) -> None:
        config = config or RetryBudgetConfig()
        self._ratio = config.ratio
        self._floor = config.floor_per_s
        self._burst = config.burst
        self._since = now
        self.saved: float = config.burst
        """How many repeats may be spent now, not counting the floor since the last repeat."""

    def attempt(self) -> None:
        """Count a first attempt."""
        saved = self.saved + self._ratio
        self.saved = saved if saved < self._burst else self._burst  # noqa: FURB136 - half the time of min()

    def spend(self, now: float) -> bool:
        """Take one repeat from the budget; False when there is none left."""
        elapsed = max(now - self._since, 0.0)
        self._since = now
        self.saved = min(self.saved + elapsed * self._floor, self._burst)
        if self.saved < 1.0:
            return False
        self.saved -= 1.0
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which failures are repeated, how often, and after what pause.

    Only what is worth it and safe: `Unavailable` and `Overloaded` (and what `also` names), and only if
    the operation was certainly not applied or is idempotent.
    """

    attempts: int = 3
    """How often in all, the first one included."""
    base_s: float = 0.02
    """The longest pause before the first repeat; it doubles with each."""
    longest_s: float = 1.0
    also: tuple[type[Exception], ...] = ()
    """Errors of other libraries that are worth another attempt. Their outcome counts as unknown."""
    budget: RetryBudgetConfig = RetryBudgetConfig()

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100:
            raise InvalidConfiguration(f"attempts must be between 1 and 100, not {self.attempts}")
        if not 0 <= self.base_s <= self.longest_s <= 3600:
            raise InvalidConfiguration(
                f"the pauses must have 0 <= base_s <= longest_s <= 3600, not {self.base_s}, {self.longest_s}"
            )

    def worth(self, error: BaseException, *, idempotent: bool) -> bool:
        """Return whether another attempt could succeed and would do no harm."""
        if isinstance(error, Unavailable | Overloaded):
            return idempotent or error.outcome is Outcome.NOT_APPLIED
        return idempotent and bool(self.also) and isinstance(error, self.also)

    def pause_s(self, repeat: int, chance: float, error: BaseException | None = None) -> float:
        """Return how long to wait before repeat number `repeat` (1 for the first), by `chance` in [0, 1).

        A server that said when to come back is taken at its word, and callers are spread beyond it.
        """
        ceiling = min(self.longest_s, self.base_s * 2.0 ** min(repeat - 1, 60))
        after = error.retry_after_s if isinstance(error, CoterieError) else None
        return chance * ceiling + (after or 0.0)
