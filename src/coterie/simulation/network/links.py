"""Links: how long a packet takes from one host to another, and whether it arrives. Pure decisions.

A link is one direction between two hosts and draws from its own stream of the tape. Streams of bytes
never lose or reorder anything, they come late: a lost segment costs a retransmission timeout, as in
TCP (RFC 6298). Datagrams are lost, doubled and, by unequal latencies, reordered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidArgument
from ..tape import Stream

__all__ = ["LOOPBACK", "PERFECT", "RTO_MAX_S", "RTO_S", "Conditions", "Cut", "Disturbance", "Link"]

RTO_S = 0.2
"""How long a sender waits for an acknowledgement before it sends again, at first."""
RTO_MAX_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a link does to packets. Validated on construction."""

    latency_s: tuple[float, float] = (0.0002, 0.001)
    """From the shortest (the calm choice) to the longest, uniformly."""
    tail: float = 0.0
    """The probability that a packet takes `tail_s` longer."""
    tail_s: tuple[float, float] = (0.01, 0.5)
    loss: float = 0.0
    duplicate: float = 0.0
    """The probability that a datagram arrives twice."""
    fragment: float = 0.0
    """The probability that a write to a stream arrives in two pieces."""
    bytes_per_s: float = math.inf
    """The bandwidth; what exceeds it queues."""

    def __post_init__(self) -> None:
        for name in ("tail", "loss", "duplicate", "fragment"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidArgument(f"{name} is a probability, not {getattr(self, name)!r}")
        for name in ("latency_s", "tail_s"):
            low, high = getattr(self, name)
            if not 0.0 <= low <= high < math.inf:
                raise InvalidArgument(f"{name} must be a range (low, high) from 0 on, not {(low, high)!r}")
        if not self.bytes_per_s > 0:
            raise InvalidArgument(f"bytes_per_s must be above 0, not {self.bytes_per_s!r}")


LOOPBACK = Conditions(latency_s=(20e-6, 20e-6))
"""Between processes of one host."""
PERFECT = Conditions(latency_s=(50e-6, 50e-6))
"""Between the test itself and any host."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing passes from any of `sources` to any of `targets`. A partition is one in each direction."""

    sources: frozenset[str]
    targets: frozenset[str]

    def severs(self, source: str, target: str) -> bool:
        return source != target and source in self.sources and target in self.targets


@dataclass(frozen=True, eq=False, slots=True)
class Disturbance:
    """What a fault changes in the conditions of some links, whatever else is changed at the same time."""

    pairs: frozenset[tuple[str, str]]
    changes: Mapping[str, Any]


class Link:
    """One direction between two hosts."""

    __slots__ = ("_busy_until_s", "_stream", "conditions", "cut", "source", "target")

    def __init__(self, source: str, target: str, conditions: Conditions, stream: Stream) -> None:
        self.source: str = source
        self.target: str = target
        self.conditions: Conditions = conditions
        self.cut: bool = False
        self._stream = stream
        self._busy_until_s = 0.0

    def __repr__(self) -> str:
        return f"Link({self.source!r} to {self.target!r}{', cut' if self.cut else ''})"

    def judge(self, cuts: Iterable[Cut]) -> None:
        """Find out whether any of `cuts` severs this link."""
        self.cut = any(cut.severs(self.source, self.target) for cut in cuts)

    def _leaves(self, now: float, size: int) -> float:
        """Return when the last byte of a packet has left, behind those that queue before it."""
        if self.conditions.bytes_per_s == math.inf:
            return now
        self._busy_until_s = max(now, self._busy_until_s) + size / self.conditions.bytes_per_s
        return self._busy_until_s

    def _latency_s(self) -> float:
        conditions = self.conditions
        low, high = conditions.latency_s
        latency_s = low if low == high else self._stream.uniform(low, high)
        if conditions.tail and self._stream.chance(conditions.tail):
            latency_s += self._stream.uniform(*conditions.tail_s)
        return latency_s

    def segment(self, now: float, size: int) -> float:
        """Return when a segment of a stream that is sent now arrives, retransmissions included."""
        arrival = self._leaves(now, size) + self._latency_s()
        if self.conditions.loss:
            rto_s = RTO_S
            while self._stream.chance(self.conditions.loss) and rto_s < RTO_MAX_S:
                arrival += rto_s
                rto_s *= 2
        return arrival

    def split(self, size: int) -> int:
        """Return where a write of `size` bytes is cut in two, or 0 when it arrives whole."""
        if size < 2 or not self.conditions.fragment or not self._stream.chance(self.conditions.fragment):
            return 0
        return 1 + self._stream.below(size - 1)

    def datagram(self, now: float, size: int) -> tuple[float, ...]:
        """Return when the copies of a datagram that is sent now arrive; empty when it is lost."""
        if self.cut or (self.conditions.loss and self._stream.chance(self.conditions.loss)):
            return ()
        first = self._leaves(now, size) + self._latency_s()
        if self.conditions.duplicate and self._stream.chance(self.conditions.duplicate):
            return (first, now + self._latency_s())
        return (first,)

    def control(self, now: float) -> float:
        """Return when a packet without data (SYN, RST, an acknowledgement) that is sent now arrives."""
        return now + self._latency_s()
