"""Which endpoint takes the next call. Pure: time and chance are inputs.

Power of two choices (Mitzenmacher, 2001): of two endpoints at random, the one with fewer calls under
way. It spreads load nearly as evenly as asking all, without herding to the one that looked idle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Endpoint", "Router"]

_MOST_AVOIDED = 256


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A node that takes calls to a service."""

    node: str
    address: str


@dataclass(slots=True)
class Router:
    """Chooses among live endpoints, and keeps away for a while from those that just failed."""

    avoid_s: float = 0.5
    _avoided: dict[str, float] = field(default_factory=dict)

    def choose(
        self,
        endpoints: Sequence[Endpoint],
        tried: Sequence[str],
        *,
        now: float,
        chance: float,
        pending: Callable[[str], int],
    ) -> Endpoint | None:
        """Return the endpoint for the next attempt of a call, or None when each was tried.

        `tried` has the addresses that this call has tried; `chance` is uniform in [0, 1).
        """
        candidates: Sequence[Endpoint] = endpoints
        if tried or self._avoided:
            fresh = [endpoint for endpoint in endpoints if endpoint.address not in tried]
            # An avoided endpoint is still better than none.
            candidates = [e for e in fresh if self._avoided.get(e.address, 0.0) <= now] or fresh
        count = len(candidates)
        if count <= 1:
            return candidates[0] if candidates else None
        # One number in [0, 1) picks an ordered pair of two different endpoints.
        index = int(chance * count * (count - 1))
        first, second = divmod(index, count - 1)
        if second >= first:
            second += 1
        one, other = candidates[first], candidates[second]
        return one if pending(one.address) <= pending(other.address) else other

    def failed(self, address: str, now: float) -> None:
        """Keep away from `address` for a while."""
        self._avoided.pop(address, None)
        if len(self._avoided) >= _MOST_AVOIDED:
            del self._avoided[next(iter(self._avoided))]  # The oldest: each is kept for as long.
        self._avoided[address] = now + self.avoid_s

    def worked(self, address: str) -> None:
        """Take `address` back into the choice."""
        if self._avoided:
            self._avoided.pop(address, None)
