"""The decisions of membership, pure: what the cluster looks like, and whether this node is in it.

    Standing.        renewed            lost, or unsure for too long
    OUT  --joined--> IN  -------------> OUT (and join again, as a new incarnation)
    IN   --leave---> LEAVING ---------> OUT

A node believes in its lease only until `ttl - margin` after the *start* of the last renewal that
succeeded, by its own monotonic clock. The store counts from a later moment, so the node stops
believing before anyone else can be told that it is gone (Gray and Cheriton, "Leases", 1989).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ..ports.store import Batch

__all__ = ["Event", "EventKind", "Member", "MemberState", "Standing", "View"]


class MemberState(enum.StrEnum):
    """What a member does with calls."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    """It finishes what it accepted and takes nothing new."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the cluster knows it. `id` is new at each start; `name` stays."""

    id: str
    name: str
    address: str
    """Where its wire listens; empty for one that only calls."""
    http: str = ""
    """The base URL of its HTTP gateway, or empty."""
    services: tuple[str, ...] = ()
    state: MemberState = MemberState.STARTING
    started: float = 0.0
    """Seconds since 1970, by its own clock; for people."""
    version: str = ""
    pid: int = 0
    host: str = ""
    zone: str = ""
    weight: float = 1.0


class EventKind(enum.StrEnum):
    JOINED = "joined"
    CHANGED = "changed"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to the view."""

    kind: EventKind
    member: Member


@dataclass(slots=True)
class View:
    """The members by id, brought up to date from the store's watch."""

    prefix: str
    members: dict[str, Member] = field(default_factory=dict)
    revision: int = 0
    unreadable: set[str] = field(default_factory=set)
    """Keys whose record could not be read: members of a newer version, say. They are not called."""

    def apply(self, batch: Batch) -> list[Event]:
        """Take over `batch` and return what changed, in a fixed order."""
        events: list[Event] = []
        if batch.snapshot:
            present = {change.key[len(self.prefix) :] for change in batch.changes}
            events += [self._drop(id_) for id_ in sorted(self.members) if id_ not in present]
            self.unreadable.clear()
        for change in batch.changes:
            id_ = change.key[len(self.prefix) :]
            if change.value is None:
                self.unreadable.discard(change.key)
                if id_ in self.members:
                    events.append(self._drop(id_))
                continue
            try:
                member = _DECODE(change.value)
            except msgspec.DecodeError:
                self.unreadable.add(change.key)
                if id_ in self.members:
                    events.append(self._drop(id_))
                continue
            self.unreadable.discard(change.key)
            before = self.members.get(id_)
            if before != member:
                self.members[id_] = member
                events.append(Event(EventKind.JOINED if before is None else EventKind.CHANGED, member))
        self.revision = batch.revision
        return events

    def _drop(self, id_: str) -> Event:
        return Event(EventKind.LEFT, self.members.pop(id_))

    def serving(self) -> Mapping[str, tuple[Member, ...]]:
        """Return, by service, the members that take calls to it, ordered by id."""
        found: dict[str, list[Member]] = {}
        for _, member in sorted(self.members.items()):
            if member.state is MemberState.SERVING and member.address:
                for service in member.services:
                    found.setdefault(service, []).append(member)
        return {service: tuple(members) for service, members in found.items()}


_DECODE = msgspec.msgpack.Decoder(Member).decode


@dataclass(slots=True)
class Standing:
    """Whether this node may believe that it is a member. Times are of its own monotonic clock."""

    ttl_s: float
    margin_s: float
    renewed_at: float | None = None
    """When the last successful grant or renewal was *begun*."""

    def __post_init__(self) -> None:
        if not 0 < self.margin_s < self.ttl_s:
            raise ValueError(f"the margin must lie between 0 and the lease: {self}")

    def joined(self, began: float) -> None:
        self.renewed_at = began

    def lost(self) -> None:
        self.renewed_at = None

    def believes(self, now: float) -> bool:
        """Return whether the lease is certainly still held at `now`."""
        return self.renewed_at is not None and now < self.renewed_at + self.ttl_s - self.margin_s

    def next_renewal_s(self, now: float) -> float:
        """Return how long to wait before the next renewal: a third of the lease after the last one."""
        if self.renewed_at is None:
            return 0.0
        return max(0.0, self.renewed_at + self.ttl_s / 3 - now)
