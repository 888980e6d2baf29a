"""`Policy`: what is done, and in which order, so that a call survives.

From the outside in, always in this order:

    deadline          the whole call ends by `timeout_s`, and by the deadline that it inherits
    rate              more than `rate` allows is refused at once
    limit             more under way than `limit` allows waits in `queue`, or is refused
    retry             failures that may be repeated are, within the budget
    hedge             a slow attempt gets company, from the same budget
    balance, breaker  each attempt goes to a target that works; `ejection` bounds who is left out
    attempt           one attempt ends by `attempt_timeout_s`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidConfiguration
from .breaker import BreakerConfig
from .budget import Retry
from .ejection import EjectionConfig
from .limit import AdaptiveLimitConfig, check_limit
from .overriding import overridden
from .queue import QueueConfig
from .rate import Rate

__all__ = ["Hedge", "Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """A second attempt of an idempotent call that takes longer than usual (Dean and Barroso, "The Tail at
    Scale", 2013)."""

    quantile: float = 0.95
    """It starts after the time that this part of the calls needs."""
    least_s: float = 0.001
    """... but never sooner than this."""
    min_calls: int = 50
    """Before so many calls nobody knows what is usual, and nothing is hedged."""

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1 or self.least_s < 0 or self.min_calls < 1:
            raise InvalidConfiguration(f"not usable for hedging: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a call is given to survive. A frozen value; `None` switches a part off."""

    timeout_s: float | None = 5.0
    """How long the whole call may take, whatever is repeated."""
    attempt_timeout_s: float | None = None
    """How long one attempt may take. An attempt that was given up has an unknown outcome."""
    rate: Rate | None = None
    limit: int | AdaptiveLimitConfig | None = None
    """How many may be under way at once: a number (a bulkhead), or learned from latency."""
    queue: QueueConfig = field(default_factory=QueueConfig)
    """Who waits when the limit is reached."""
    retry: Retry | None = field(default_factory=Retry)
    hedge: Hedge | None = None
    breaker: BreakerConfig | None = field(default_factory=BreakerConfig)
    ejection: EjectionConfig = field(default_factory=EjectionConfig)
    """How many endpoints may be left out at once because their breakers are open."""

    def __post_init__(self) -> None:
        for name in ("timeout_s", "attempt_timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 86400:
                raise InvalidConfiguration(f"{name} must be above 0 and at most 86400 seconds, not {value}")
        check_limit(self.limit)

    @classmethod
    def none(cls) -> Policy:
        """Return the policy that does nothing."""
        return cls(timeout_s=None, retry=None, breaker=None)

    def overridden(self, values: Mapping[str, Any], *, where: str) -> Policy:
        """Return this policy with parts replaced by `values`, as they stand in a file.

        Nested tables replace single fields: `{"retry": {"attempts": 5}}` leaves the other fields of the
        retry alone. `where` names the place, for the error.
        """
        return overridden(self, values, where=where)
