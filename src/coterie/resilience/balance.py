"""Which of several targets takes the next call. Pure: time and chance are inputs.

Sources: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); Finagle's peak
EWMA; Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2018); nginx's smooth
weighted round robin.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

from ..errors import InvalidConfiguration
from .latency import PeakEwma

__all__ = [
    "Balancer",
    "ConsistentHash",
    "LeastRequests",
    "Load",
    "Loads",
    "Local",
    "PowerOfTwo",
    "RoundRobin",
    "Target",
    "Weighted",
]

_LEAST_S = 0.005
"""Latencies below this do not tell targets apart: an event loop that is busy with something else, or a
pause of the garbage collector, takes as long. Among quick targets those decide that are under way."""
_WORKED_OUT_S = 0.05
"""How long it holds what a call to a target costs, unless one ends before."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that takes calls."""

    address: str
    zone: str = ""
    """Where it is; calls within a zone are cheaper than between zones."""
    weight: float = 1.0


class Load:
    """What this caller knows of one target from its own calls."""

    __slots__ = ("cost_s", "cost_until", "latency", "measured", "pending", "since")

    def __init__(self, since: float, decay_s: float) -> None:
        self.pending: int = 0
        self.latency: PeakEwma = PeakEwma(decay_s)
        self.measured: bool = False
        """Whether a call has ended. The first one is no measure: it had to connect."""
        self.cost_s: float = 0.0
        """What one call costs here; worked out anew at `cost_until`."""
        self.cost_until: float = -math.inf
        self.since: float = since
        """When it was first seen, while others were known already; else long ago."""


class Loads:
    """What this caller knows of all targets."""

    def __init__(self, *, decay_s: float = 10.0, warm_s: float = 10.0, penalty_s: float = 1.0) -> None:
        self._decay_s = decay_s
        self._warm_s = warm_s
        self._penalty_s = penalty_s
        self._loads: dict[str, Load] = {}
        self._known: frozenset[str] = frozenset()

    def retain(self, addresses: Iterable[str], now: float) -> None:
        """Take in which targets there are: new ones start slowly, those that are gone are forgotten."""
        known = frozenset(addresses)
        if known == self._known:
            return
        since = now if self._known else -math.inf
        for address in known - self._known:
            self._loads[address] = Load(since, self._decay_s)
        for address in self._known - known:
            self._loads.pop(address, None)
        self._known = known

    def of(self, address: str) -> Load:
        """Return what is known of `address`."""
        load = self._loads.get(address)
        if load is None:
            load = self._loads[address] = Load(-math.inf, self._decay_s)
        return load

    def started(self, address: str) -> Load:
        """Count a call that starts. End it with `finished` or `abandoned`."""
        load = self.of(address)
        load.pending += 1
        return load

    def finished(self, load: Load, now: float, took_s: float, *, failed: bool) -> None:
        """Count a call that ended."""
        load.pending -= 1
        self.measured(load, now, took_s, failed=failed)

    def measured(self, load: Load, now: float, took_s: float, *, failed: bool) -> None:
        """Take in what a call took. A failure counts as slow: what fails at once must not look fast."""
        if failed:
            load.latency.add(now, max(took_s, self._penalty_s))
        elif load.measured:
            load.latency.add(now, took_s)
        load.measured = True
        load.cost_until = -math.inf

    @staticmethod
    def abandoned(load: Load) -> None:
        """Count a call that ended without saying anything of its target."""
        load.pending -= 1

    def warmth(self, address: str, now: float) -> float:
        """Return how much of its share a target gets: rises from a tenth to 1 over the first seconds."""
        age_s = now - self.of(address).since
        return 1.0 if age_s >= self._warm_s else max(age_s / self._warm_s, 0.1)

    def cost(self, target: Target, now: float) -> float:
        """Return the expected wait at a target: what calls take there, times those that are in line."""
        load = self._loads.get(target.address) or self.of(target.address)
        if now >= load.cost_until:
            usual_s = max(load.latency.at(now), _LEAST_S)
            load.cost_s = usual_s / (target.weight * self.warmth(target.address, now))
            load.cost_until = now + _WORKED_OUT_S
        return load.cost_s * (load.pending + 1)


class Balancer(Protocol):
    """Chooses; `targets` is not empty. `chance` is uniform in [0, 1); `key` is what the call is about."""

    def choose(
        self, targets: Sequence[Target], loads: Loads, *, now: float, chance: float, key: str | None
    ) -> Target: ...


def two_of(targets: Sequence[Target], chance: float) -> tuple[Target, Target]:
    """Return an ordered pair of two different targets, each pair equally likely."""
    count = len(targets)
    first, second = divmod(int(chance * count * (count - 1)), count - 1)
    return targets[first], targets[second + (second >= first)]


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Of two at random, the one where a call is expected to wait less. The default."""

    def choose(
        self, targets: Sequence[Target], loads: Loads, *, now: float, chance: float, key: str | None
    ) -> Target:
        if len(targets) == 1:
            return targets[0]
        one, other = two_of(targets, chance)
        return one if loads.cost(one, now) <= loads.cost(other, now) else other


@dataclass(frozen=True, slots=True)
class LeastRequests:
    """Of two at random, the one with fewer calls under way."""

    def choose(
        self, targets: Sequence[Target], loads: Loads, *, now: float, chance: float, key: str | None
    ) -> Target:
        if len(targets) == 1:
            return targets[0]
        one, other = two_of(targets, chance)
        return one if loads.of(one.address).pending <= loads.of(other.address).pending else other


@dataclass(slots=True)
class RoundRobin:
    """One after the other."""

    _next: int = 0

    def choose(
        self, targets: Sequence[Target], loads: Loads, *, now: float, chance: float, key: str | None
    ) -> Target:
        self._next += 1
        return targets[self._next % len(targets)]


@dataclass(slots=True)
class Weighted:
    """In proportion to the weights, spread evenly: with weights 95 and 5, every twentieth to the second."""

    _credit: dict[str, float] = field(default_factory=dict)

    def choose(
        self, targets: Sequence[Target], loads: Loads, *, now: float, chance: float, key: str | None
    ) -> Target:
        credit = {target.address: self._credit.get(target.address, 0.0) + target.weight for target in targets}
        chosen = max(targets, key=lambda target: credit[target.address])
        credit[chosen.address] -= sum(target.weight for target in targets)
        self._credit = credit
        return chosen


class ConsistentHash:
    """The same key to the same target, as long as that is not far busier than the others.

    Each target owns `points` places on a ring; a key goes to the next place clockwise. When targets come
    or go only the keys of their places move. A target with more than `balance` times the mean number of
    calls under way is passed over.
    """

    def __init__(self, *, points: int = 100, balance: float = 1.25) -> None:
        if not 1 <= points <= 10_000 or balance <= 1:
            raise InvalidConfiguration(f"points from 1 to 10,000, balance above 1: not {points}, {balance}")
        self._points = points
        self._balance = balance
        self._built_for: tuple[str, ...] = ()
        self._places: list[int] = []
        self._owners: list[int] = []

    def choose(
        self, targets: Sequence[Target], loads: Loads, *, now: float, chance: float, key: str | None
    ) -> Target:
        addresses = tuple(target.address for target in targets)
        if addresses != self._built_for:
            self._build(addresses)
        place = _hash(key) if key is not None else int(chance * 2**64)
        start = bisect.bisect_left(self._places, place)
        pending = [loads.of(address).pending for address in addresses]
        capacity = math.ceil(self._balance * (sum(pending) + 1) / len(targets))
        for step in range(len(self._places)):
            owner = self._owners[(start + step) % len(self._places)]
            if pending[owner] < capacity:
                return targets[owner]
        return targets[self._owners[start % len(self._places)]]

    def _build(self, addresses: tuple[str, ...]) -> None:
        ring = sorted(
            (_hash(f"{address}#{point}"), owner)
            for owner, address in enumerate(addresses)
            for point in range(self._points)
        )
        self._places = [place for place, _ in ring]
        self._owners = [owner for _, owner in ring]
        self._built_for = addresses


@dataclass(frozen=True, slots=True)
class Local:
    """Targets of one's own zone, chosen by `inner`, as long as they are a fair part of all.

    With fewer than `least_share` of all targets in the zone, everything goes everywhere: the few would
    be overrun. A client of an app has the zone of its node, unless another one is given.
    """

    zone: str = ""
    inner: Balancer = field(default_factory=PowerOfTwo)
    least_share: float = 0.2

    def choose(
        self, targets: Sequence[Target], loads: Loads, *, now: float, chance: float, key: str | None
    ) -> Target:
        near = [target for target in targets if target.zone == self.zone]
        if len(near) < self.least_share * len(targets) or not near:
            near = list(targets)
        return self.inner.choose(near, loads, now=now, chance=chance, key=key)


def _hash(text: str) -> int:
    # The same in every process, unlike hash().
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
