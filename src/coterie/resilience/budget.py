"""Retries: when, after what pause, and how many a caller may spend in all. Pure: time and chance are inputs.

Sources: Brooker, "Exponential Backoff and Jitter" (AWS, 2015) for full jitter; "Handling Overload" in
Beyer et al., "Site Reliability Engineering" (2016), for budgets as a ratio of the traffic; Bronson et
al., "Metastable Failures in Distributed Systems" (HotOS 2021), for what happens without.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CoterieError, DeadlineExceeded, InvalidConfiguration, Outcome, Overloaded, Unavailable

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

    __slots__ = ("_burst", "_floor", "_ratio", "_saved", "_since", "fresh")

    def __init__(self, config: RetryBudgetConfig | None = None, *, now: float = 0.0) -> None:
        config = config or RetryBudgetConfig()
        self._ratio = config.ratio
        self._floor = config.floor_per_s
        self._burst = config.burst
        self._since = now
        self._saved = config.burst
        self.fresh: int = 0
        """First attempts since the last repeat. Whoever makes one adds 1: they are worth it only then."""

    @property
    def saved(self) -> float:
        """How many repeats may be spent now, not counting the floor since the last repeat."""
        return min(self._saved + self.fresh * self._ratio, self._burst)

    def attempt(self) -> None:
        """Count a first attempt."""
        self.fresh += 1

    def spend(self, now: float) -> bool:
        """Take one repeat from the budget; False when there is none left."""
        elapsed = max(now - self._since, 0.0)
        self._since = now
        self._saved = min(self.saved + elapsed * self._floor, self._burst)
        self.fresh = 0
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which failures are repeated, how often, and after what pause.

    Only what is worth it and safe: `Unavailable` and `Overloaded` if the operation was certainly not
    applied or is idempotent; an attempt that took too long, and what `also` names, if it is idempotent.
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
        return idempotent and isinstance(error, (DeadlineExceeded, *self.also))

    def again_s(
        self,
        error: BaseException,
        attempt: int,
        *,
        idempotent: bool,
        now: float,
        until: float | None,
        chance: float,
    ) -> float | None:
        """Return after what pause to repeat what failed with `error` at attempt number `attempt`, or None.

        None also when the pause would last beyond `until`: better the error than that time is up. Whoever
        repeats it still has to ask the budget.
        """
        if attempt >= self.attempts or not self.worth(error, idempotent=idempotent):
            return None
        pause_s = self.pause_s(attempt, chance, error)
        return None if until is not None and now + pause_s >= until else pause_s

    def pause_s(self, repeat: int, chance: float, error: BaseException | None = None) -> float:
        """Return how long to wait before repeat number `repeat` (1 for the first), by `chance` in [0, 1).

        A server that said when to come back is taken at its word, and callers are spread beyond it.
        """
        ceiling = min(self.longest_s, self.base_s * 2.0 ** min(repeat - 1, 60))
        after = error.retry_after_s if isinstance(error, CoterieError) else None
        return chance * ceiling + (after or 0.0)
