"""The leases of a memory store: which live, until when, and which keys vanish with them.

A pure table: the time is an argument of every method that needs it, in seconds of one clock that
never goes back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...errors import LeaseLost

__all__ = ["Lease", "Leases"]


@dataclass(slots=True)
class Lease:
    """A lease that ends at `expires_at` unless it is renewed; `keys` are in the order of their puts."""

    ttl_s: float
    expires_at: float
    keys: dict[str, None] = field(default_factory=dict)


class Leases:
    """All leases that have not been ended by `pop`. Ids start at 1 and are never used again."""

    __slots__ = ("_last_id", "_leases", "next_expiry")

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._last_id = 0
        self.next_expiry: float = math.inf
        """A time before which no lease expires, so that most calls need not look at the leases."""

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, lease: int) -> bool:
        return lease in self._leases

    def grant(self, ttl_s: float, now: float) -> int:
        """Add a lease of `ttl_s` seconds and return its id."""
        self._last_id += 1
        self._leases[self._last_id] = Lease(ttl_s, now + ttl_s)
        self.next_expiry = min(self.next_expiry, now + ttl_s)
        return self._last_id

    def renew(self, lease: int, now: float) -> None:
        """Give the lease its full time again; raise `LeaseLost` if it has ended."""
        known = self._leases.get(lease)
        if known is None:
            raise lease_lost(lease)
        known.expires_at = now + known.ttl_s

    def attach(self, lease: int, key: str) -> None:
        """Let `key` vanish with the lease."""
        self._leases[lease].keys[key] = None

    def detach(self, lease: int, key: str) -> None:
        """Let `key` outlive the lease."""
        known = self._leases.get(lease)
        if known is not None:
            known.keys.pop(key, None)

    def pop(self, lease: int) -> tuple[str, ...]:
        """End the lease and return the keys that vanish with it; none when it has ended already."""
        known = self._leases.pop(lease, None)
        return () if known is None else tuple(known.keys)

    def due(self, now: float) -> list[int]:
        """Return the leases whose time is over, the oldest first, and bring `next_expiry` up to date."""
        over = [(lease.expires_at, id_) for id_, lease in self._leases.items() if lease.expires_at <= now]
        living = (lease.expires_at for lease in self._leases.values() if lease.expires_at > now)
        self.next_expiry = min(living, default=math.inf)
        return [id_ for _expires_at, id_ in sorted(over)]


def lease_lost(lease: int) -> LeaseLost:
    return LeaseLost(f"the lease {lease} has ended", hint="grant a new one and write its entries again")
