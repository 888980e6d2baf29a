"""What a notebook holds: operations, and what is known of them. See `Notebook`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ...history import NEVER, Interval
from ...ports.store import Fence
from ...resilience import Rate

__all__ = [
    "Acquired",
    "Call",
    "Committed",
    "FencedWrite",
    "Keyed",
    "Noted",
    "Passed",
    "Ran",
    "Rated",
    "Reserved",
    "Scanned",
    "Seen",
    "Streamed",
]


@dataclass(slots=True, eq=False)
class Noted:
    """An operation of one host. `start` and `end` are positions in the order of all that is noted."""

    host: str
    f: str
    key: str | None
    argument: Any
    start: int
    start_ns: int
    result: Any = None
    outcome: str = "unknown"
    end: int = NEVER
    end_ns: int | None = None
    error: str | None = None

    def interval(self) -> Interval:
        """Return the operation as the checkers take it."""
        return Interval(
            self.host,
            self.f,
            self.key,
            self.argument,
            self.result,
            self.outcome,  # type: ignore[arg-type]  # one of the three
            self.start,
            NEVER if self.outcome == "unknown" else self.end,
            self.start_ns,
            self.end_ns,
            self.error,
        )


@dataclass(slots=True, eq=False)
class Call(Noted):
    """A request to a method of a service. `key` is the method, `handled` is where and when it ran."""

    number: int = 0
    target: str = ""
    """The host that it was sent to."""
    quiet: bool = False
    """Whether it serves a check of a promise and not the program."""
    refused: bool = False
    """Whether the caller was told that it certainly did not reach a handler."""
    handled: list[Noted] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Streamed:
    """A request for a stream. The key of `noted` is the method."""

    noted: Noted
    number: int
    target: str
    """The host that it was sent to."""
    handled: list[Noted] = field(default_factory=list)
    under_way: deque[bytes] = field(default_factory=deque)
    """What was sent and has not come yet; the wire bounds how much that is."""
    received: int = 0
    sent_all: bool = False
    """Whether the handler came to its end."""
    wrong: str = ""
    """What was wrong with the items, if anything; the first of it."""

    def got(self, item: bytes) -> None:
        """Compare an item that has come with the next that was sent."""
        self.received += 1
        if not self.under_way:
            self.wrong = self.wrong or f"item {self.received} came and was not sent"
        elif self.under_way.popleft() != item:
            self.wrong = self.wrong or f"item {self.received} was not the next that had been sent"

    def came_to_its_end(self) -> None:
        """Compare the end of it with what was sent."""
        if self.handled and (self.under_way or not self.sent_all):
            self.wrong = self.wrong or f"it ended after {self.received} items and was not sent to its end"


@dataclass(slots=True, eq=False)
class Committed:
    """A commit: the versions that it checked, and the numbers of its writes by key."""

    noted: Noted
    reads: list[tuple[str, int]]
    writes: list[tuple[str, int]]
    parts: list[Noted]
    """What it does to single keys: its writes, in their order, and then reads."""
    revision: int = 0
    """Its revision, once it is known to have happened."""

    def read(self, reads: dict[str, int]) -> None:
        """Take in what its transaction has read besides."""
        known = dict(self.reads)
        self.reads += [(key, version) for key, version in reads.items() if key not in known]

    @property
    def several(self) -> bool:
        """Whether it is about more than one key."""
        return len({key for key, _ in (*self.reads, *self.writes)}) > 1


@dataclass(slots=True, eq=False)
class FencedWrite:
    """A write that was accepted with the token of a lease."""

    noted: Noted
    fence: Fence
    revision: int


@dataclass(slots=True, eq=False)
class Seen:
    """A single read, and the version that it saw."""

    noted: Noted
    key: str
    version: int


@dataclass(slots=True, eq=False)
class Scanned:
    """A scan of a map, as far as it came."""

    noted: Noted
    prefix: str
    """What the keys that it looks for begin with in the Store."""
    found: list[tuple[str, int]] = field(default_factory=list)
    """The keys in the Store, and their versions."""
    until: int = 0
    """The position at which it found the last of them, or came to its end."""
    whole: bool = False
    """Whether it came to the end of the map."""

    def reached(self, key: str) -> bool:
        """Return whether it would have found this key, if that was there."""
        return self.whole or (bool(self.found) and key <= self.found[-1][0])


@dataclass(slots=True, eq=False)
class Keyed:
    """What happened under one idempotency key of one method."""

    runs: list[Noted] = field(default_factory=list)
    """When the method itself ran."""
    replies: list[tuple[Call, bytes]] = field(default_factory=list)
    """What its callers were told."""


@dataclass(slots=True, eq=False)
class Acquired:
    """A lease that a queue gave: of a lock, a semaphore or an election. The key of `noted` is the queue."""

    noted: Noted
    token: int
    shared: bool
    """Whether others may hold in the same mode."""
    places: int
    fence: str | None
    """The name that its fenced writes go by."""
    beside: tuple[Noted, ...] = ()
    """Who else held when it was given, by the Store's own view, and should not have."""


@dataclass(slots=True, eq=False)
class Reserved:
    """Numbers that a sequence gave out: from `first` to `last`. The key of `noted` is the sequence."""

    noted: Noted
    first: int
    last: int
    block: int
    """How many a node takes at a time."""


@dataclass(slots=True, eq=False)
class Ran:
    """A run for a tick. The key of `noted` is the job."""

    noted: Noted
    due: float
    attempt: int
    token: int
    again: bool
    """Whether the tick may be run again when a node dies."""


@dataclass(slots=True, eq=False)
class Passed:
    """Units that a rate limit let through, at the end of `noted`."""

    noted: Noted
    units: int


@dataclass(slots=True, eq=False)
class Rated:
    """What happened under one key of a rate limit."""

    rate: Rate
    hosts: set[str] = field(default_factory=set)
    """Who asked."""
    most: int = 1
    """How many units one call asked for at most."""
    passed: list[Passed] = field(default_factory=list)
    """In the order of time. What was let through because nobody could ask the Store is left out."""
