"""The decisions behind locks, pure: whose turn it is, and for how long a node may believe in its lease.

Each lock has a queue in the Store: one entry for each who holds or waits, written once, under a lease. The
version of an entry is its place in the queue and, once it holds, its fencing token, so tokens rise in the
order in which the lock is held. The entry's presence is the claim: it vanishes with its node's lease.

    exclusive   holds when it is first;                  waits for the one before it
    shared      holds when nobody exclusive is before;   waits for the last exclusive one before it
    n places    holds when fewer than n are before;      waits for any of those before it

The first two rows are the lock recipes of Hunt et al., "ZooKeeper: Wait-free coordination for
Internet-scale systems" (2010): each waiter watches one entry, so a release wakes those who can go on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from ..errors import CorruptData
from ..ports.store import Batch

__all__ = [
    "Behind",
    "Gone",
    "Held",
    "Mode",
    "Place",
    "Tenure",
    "Ticket",
    "backoff_s",
    "holders",
    "read_batch",
    "read_place",
    "turn",
]


class Mode(enum.StrEnum):
    """Who may hold beside whom."""

    EXCLUSIVE = "exclusive"
    SHARED = "shared"


class Ticket(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What an entry of a queue says: how it wants to hold, and who it is, for people."""

    mode: Mode = Mode.EXCLUSIVE
    places: int = 1
    """How many may hold at once; more than one for a semaphore."""
    node: str = ""
    owner: str = ""
    """The same for all that one task holds and waits for."""
    task: str = ""
    since: float = 0.0
    """Seconds since 1970, by the node's own clock; for people."""


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of a queue."""

    id: str
    version: int
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Held:
    """It is one's turn. `behind` is how many wait."""

    behind: int


@dataclass(frozen=True, slots=True)
class Behind:
    """Wait until the entry `ahead` is gone; None says that any change may matter."""

    ahead: str | None


@dataclass(frozen=True, slots=True)
class Gone:
    """One's own entry is not in the queue any more."""


_decode = msgspec.msgpack.Decoder(Ticket).decode


def read_place(id_: str, version: int, value: bytes) -> Place:
    """Return an entry as it was read; raise `CorruptData` when it is none."""
    try:
        return Place(id_, version, _decode(value))
    except msgspec.DecodeError as error:
        raise CorruptData(f"the queue entry {id_!r} is not one of this version: {error}") from error


def read_batch(batch: Batch, prefix: str, queue: dict[str, Place]) -> None:
    """Bring `queue`, places by id, up to date with what a watch of `prefix` said."""
    if batch.snapshot:
        queue.clear()
    for change in batch.changes:
        id_ = change.key[len(prefix) :]
        if change.value is None:
            queue.pop(id_, None)
        else:
            queue[id_] = read_place(id_, change.version, change.value)


def turn(queue: Iterable[Place], mine: str) -> Held | Behind | Gone:
    """Return whether the entry `mine` holds now, and if not what it waits for."""
    ordered = sorted(queue, key=lambda place: place.version)
    index = next((n for n, place in enumerate(ordered) if place.id == mine), None)
    if index is None:
        return Gone()
    ticket, before = ordered[index].ticket, ordered[:index]
    behind = len(ordered) - index - 1
    if ticket.places > 1:
        return Held(behind) if index < ticket.places else Behind(None)
    if ticket.mode is Mode.SHARED:
        before = [place for place in before if place.ticket.mode is Mode.EXCLUSIVE]
    return Behind(before[-1].id) if before else Held(behind)


def holders(queue: Sequence[Place]) -> list[Place]:
    """Return those whose turn it is, in their order."""
    ordered = sorted(queue, key=lambda place: place.version)
    return [place for place in ordered if isinstance(turn(ordered, place.id), Held)]


@dataclass(slots=True)
class Tenure:
    """For how long a node may believe in its lease. Times are of its own clock, in seconds.

    It believes until `ttl_s - margin_s` after the *start* of the last renewal that succeeded. The engine
    counts from a later moment, so the node stops believing first (Gray and Cheriton, "Leases", 1989). The
    margin covers the drift of both clocks over one lease.
    """

    ttl_s: float
    margin_s: float
    renewed_at: float

    @property
    def believed_until(self) -> float:
        return self.renewed_at + self.ttl_s - self.margin_s

    def believes(self, now: float) -> bool:
        """Return whether the lease certainly lives at `now`."""
        return now < self.believed_until

    def next_renewal_s(self, now: float) -> float:
        """Return how long to wait before the next renewal: a third of the lease after the last one."""
        return max(0.0, self.renewed_at + self.ttl_s / 3 - now)


def backoff_s(failures: int, *, first_s: float, longest_s: float) -> float:
    """Return the longest pause after so many failures in a row: it doubles each time, up to `longest_s`.

    `failures` may grow for as long as an outage lasts, and 2 to the power of it beyond any float.
    """
    return min(longest_s, first_s * 2.0 ** min(failures, 60))
