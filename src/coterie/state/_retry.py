"""When to try an optimistic operation again. Pure: the caller supplies time and chance."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Contention"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contention:
    """The waits between attempts that lost a race: exponential, with full jitter, bounded.

    Somebody wins each race, so the system makes progress whatever the waits are; they only keep the
    losers from losing again together (Brooker, "Exponential Backoff and Jitter", 2015).
    """

    attempts: int = 100
    first_wait_s: float = 0.001
    longest_wait_s: float = 0.064

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_wait_s <= self.longest_wait_s:
            raise ValueError(f"not a usable contention policy: {self}")

    def wait_s(self, attempt: int, chance: float) -> float:
        """Return how long to wait after `attempt` (from 0) lost; `chance` is uniform in [0, 1).

        The first retry does not wait: most races are over by then.
        """
        if attempt == 0:
            return 0.0
        ceiling = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(attempt, 30))
        return ceiling * chance
