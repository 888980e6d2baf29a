"""The `Log` port: durable, partitioned, append-only sequences of records; nothing more.

Groups, committed offsets, retries and dead letters are built above this port on the Store, so that
they mean the same on every engine and an offset can commit in one transaction with a handler's
writes.

The contract, checked by `coterie.conformance.log`:

* `append` returns only after the records are durable as `guarantees.durability` says; the records
  of one call are adjacent, in order, all there or none.
* The offsets of a partition only rise and are never reused. They need not be dense.
* `read` returns records in the order of their offsets and skips none that is still kept.
* A record that was read once is read again, the same, until it is trimmed.
* When `trim` has returned, no client reads what it let go of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ..errors import InvalidArgument, TooLarge
from .guarantees import Durability, Scope
from .store import validate_key

__all__ = [
    "Bounds",
    "Log",
    "LogGuarantees",
    "Record",
    "Segment",
    "Stored",
    "validate_limit",
    "validate_records",
    "validate_topic",
]


class Record(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What is appended: a `value`, an optional partition `key`, and optional small `headers`."""

    value: bytes
    key: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A record at its place. `time` is when it was appended, in seconds since 1970, for people."""

    offset: int
    record: Record
    time: float


class Segment(msgspec.Struct, frozen=True, gc=False):
    """The records that one `read` returned, and the offset at which to read on."""

    records: tuple[Stored, ...]
    next_offset: int


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """The offset of the oldest record kept, and the smallest that a coming record can have."""

    first: int
    next: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogGuarantees:
    """What a log promises; matched against every declaration when a node starts."""

    engine: str
    durability: Durability
    scope: Scope
    max_record_bytes: int = 1024 * 1024
    """The limit of one record's value, key and headers together."""
    max_append_records: int = 1000
    max_partitions: int = 1024
    notes: tuple[str, ...] = ()


class Log(Protocol):
    """Durable partitioned append; see the module for the contract.

    Every method may raise `Unavailable`, `NotFound` for a topic or partition that does not exist,
    and `InvalidArgument` or `TooLarge`.
    """

    @property
    def guarantees(self) -> LogGuarantees: ...

    async def create(self, topic: str, partitions: int) -> None:
        """Make sure that `topic` exists with `partitions` partitions (from 1).

        Raises `Conflict` when it exists with another number.
        """
        ...

    async def topics(self) -> dict[str, int]:
        """Return the number of partitions of each topic."""
        ...

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """Append `records` (at least one) next to each other and return the offset of the last."""
        ...

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        """Return up to `limit` records (1 to 10,000) at or beyond `offset`, at once; possibly none.

        Reading below the oldest record kept begins at the oldest.
        """
        ...

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        """Return when a record at or beyond `offset` can be read. Cancel it to give up."""
        ...

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """Return where the partition begins and ends now."""
        ...

    async def trim(self, topic: str, partition: int, before: int) -> None:
        """Let go of the records below the offset `before`, for all clients.

        The newest offset is still never reused.
        """
        ...

    async def delete(self, topic: str) -> None:
        """Delete `topic` with all its records. Does nothing when there is no such topic."""
        ...

    async def close(self) -> None:
        """Release what the log holds; calls under way end with `Unavailable`. Idempotent."""
        ...


def validate_records(records: Sequence[Record], guarantees: LogGuarantees) -> None:
    """Raise `InvalidArgument` or `TooLarge` unless `records` can be appended in one call."""
    if not records:
        raise InvalidArgument("append needs at least one record")
    if len(records) > guarantees.max_append_records:
        raise TooLarge(f"{len(records)} records in one append; the limit is {guarantees.max_append_records}")
    for record in records:
        if not isinstance(record.value, bytes):
            raise InvalidArgument(f"a record's value must be bytes, not {type(record.value).__name__}")
        size = len(record.value)
        if record.key:
            validate_key(record.key, guarantees.max_record_bytes)
            size += len(record.key.encode())
        for name, text in record.headers:
            size += len(name.encode()) + len(text.encode())
        if size > guarantees.max_record_bytes:
            raise TooLarge(f"a record has {size} bytes; the limit is {guarantees.max_record_bytes}")


def validate_topic(topic: str, partitions: int, guarantees: LogGuarantees) -> None:
    """Raise `InvalidArgument` or `TooLarge` unless a topic of this name and number of partitions can be."""
    validate_key(topic, 255)
    if type(partitions) is not int or not 1 <= partitions <= guarantees.max_partitions:
        raise InvalidArgument(
            f"the topic {topic!r} must have between 1 and {guarantees.max_partitions} partitions, "
            f"not {partitions!r}"
        )


def validate_limit(limit: int) -> None:
    """Raise `InvalidArgument` unless `limit` is one of `Log.read`."""
    if type(limit) is not int or not 1 <= limit <= 10_000:
        raise InvalidArgument(f"limit must be between 1 and 10,000, not {limit!r}")
