"""The `Store` port: linearizable versioned keys.

A store holds entries under string keys. All writes go through `commit`, which checks what the
caller expects and writes many keys at once or none. Every commit has a `revision`, an integer that
only rises over the whole store; the version of an entry is the revision of the commit that wrote
it, and version 0 means that the key is absent. Fencing tokens, locks and optimistic transactions
all rest on these versions.

The contract in one list, checked by `coterie.conformance.store`:

* A commit is atomic, and is durable as `guarantees.durability` says before it returns.
* `get` after an acknowledged commit, by any client, returns that commit's entry or a later one.
* A failed `Check` or `Fence` has no effect: `Conflict` or `Fenced`, outcome `not_applied`.
* Whatever else fails says truthfully whether it may have been applied (`CoterieError.outcome`).
* Every call but a watch ends: with its result, or with `Unavailable` at the engine's own time limit.
* Entries written with a lease vanish, as by a commit, when the lease ends; never before its time.
* A watch misses no key's newest state, and shows the changes of one commit together.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import msgspec

from ..errors import InvalidArgument, TooLarge
from .guarantees import Consistency, Durability, Scope

__all__ = [
    "ABSENT",
    "Batch",
    "Change",
    "Check",
    "Commit",
    "Entry",
    "Fence",
    "Page",
    "Put",
    "Store",
    "StoreGuarantees",
    "Watch",
    "validate_commit",
    "validate_key",
    "validate_prefix",
    "validate_scan",
    "validate_ttl",
]

ABSENT = 0
"""The version of a key that has no entry."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A key's value and its version; `lease` is the lease it vanishes with, or 0."""

    key: str
    value: bytes
    version: int
    lease: int = 0


class Put(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Write `value` under `key`; with a `lease` other than 0, only for as long as that lease lives."""

    key: str
    value: bytes
    lease: int = 0


class Check(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Demand that the version of `key` is `version`; `ABSENT` demands that there is no entry."""

    key: str
    version: int


class Fence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Demand that no token later than `token` was ever committed under the fence called `name`.

    A commit that passes records its token, so every later commit with a smaller one is refused, which
    is what makes a lock safe against a holder that was paused past its lease (Kleppmann, 2016).
    Fence names have a space of their own, apart from keys.
    """

    name: str
    token: int


class Commit(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What is checked and written together. A key appears at most once among `puts` and `deletes`.

    Deleting an absent key is allowed and changes nothing. A commit of checks alone is a linearizable
    read of versions.
    """

    puts: tuple[Put, ...] = ()
    deletes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    fences: tuple[Fence, ...] = ()


class Change(msgspec.Struct, frozen=True, gc=False):
    """A key's new state: `value` is None when it was deleted or its lease ended."""

    key: str
    value: bytes | None
    version: int


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Changes up to and including `revision`; never a part of a commit.

    A `snapshot` holds every entry under the prefix and replaces all that the watcher knew: keys that
    it does not name are gone. The first batch of a watch is a snapshot, and so is one after the watch
    fell behind or the engine could not resume; between snapshots each commit's changes come in order.
    """

    revision: int
    changes: tuple[Change, ...]
    snapshot: bool = False


class Page(msgspec.Struct, frozen=True, gc=False):
    """Entries in the order of their keys' code points; `more` says that others follow the last."""

    entries: tuple[Entry, ...]
    revision: int
    """A revision that the page is no older than."""
    more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreGuarantees:
    """What a store promises; matched against every declaration when a node starts."""

    engine: str
    consistency: Consistency
    durability: Durability
    scope: Scope
    multi_key_commit: bool = True
    """Commits of several keys are atomic; otherwise a commit with more than one key is refused."""
    max_key_bytes: int = 1024
    max_value_bytes: int = 1024 * 1024
    max_commit_keys: int = 128
    """The sum of puts, deletes, checks and fences that one commit may name."""
    min_lease_s: float = 1.0
    notes: tuple[str, ...] = ()
    """Caveats for a reader, one sentence each."""


class Watch(Protocol):
    """An endless iterator of batches; `aclose` ends it, also while `__anext__` waits."""

    def __aiter__(self) -> AsyncIterator[Batch]: ...

    async def __anext__(self) -> Batch: ...

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    """Linearizable versioned keys; see the module for the contract.

    Every method may raise `Unavailable` (whose outcome says whether a write may have been applied)
    and, for arguments that can never be right, `InvalidArgument` or `TooLarge`.
    """

    @property
    def guarantees(self) -> StoreGuarantees: ...

    async def get(self, key: str) -> Entry | None:
        """Return the entry of `key`, or None when it is absent."""
        ...

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` entries (1 to 10,000) whose keys start with `prefix` and are beyond `after`.

        One page is one consistent view; several pages need not be the same one.
        """
        ...

    async def commit(self, commit: Commit) -> int:
        """Apply all of `commit` or nothing, and return its revision.

        Raises `Conflict` when a check fails, `Fenced` when a fence does, `LeaseLost` when a put names
        a lease that is not alive; all three have the outcome `not_applied`. A commit that writes
        nothing returns the present revision.
        """
        ...

    async def grant(self, ttl_s: float) -> int:
        """Create a lease that ends unless it is renewed every `ttl_s` seconds, and return its id (> 0)."""
        ...

    async def renew(self, lease: int) -> None:
        """Give the lease its full time again, from the call on; raise `LeaseLost` if it has ended."""
        ...

    async def revoke(self, lease: int) -> None:
        """End the lease now and delete its entries. Does nothing when it has ended already."""
        ...

    def watch(self, prefix: str) -> Watch:
        """Follow every key that starts with `prefix`, beginning with a snapshot."""
        ...

    async def close(self) -> None:
        """Release what the store holds; calls and watches under way end with `Unavailable`. Idempotent."""
        ...


def validate_key(key: str, max_bytes: int) -> None:
    """Raise `InvalidArgument` or `TooLarge` unless `key` is one that every engine can hold."""
    if type(key) is not str or not key:
        raise InvalidArgument(f"a key must be a non-empty str, not {key!r}")
    if key.isascii():
        size = len(key)
    else:
        try:
            size = len(key.encode())
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the key {key!r} is not valid Unicode: {error.reason}") from None
    if size > max_bytes:
        raise TooLarge(f"the key {key[:40]!r}… has {size} bytes; the limit is {max_bytes}")
    if "\0" in key:
        raise InvalidArgument(f"the key {key!r} holds a NUL character, which not every engine can store")


def validate_commit(commit: Commit, guarantees: StoreGuarantees) -> None:
    """Raise `InvalidArgument` or `TooLarge` unless `commit` is one that the engine can hold."""
    puts, deletes, checks, fences = commit.puts, commit.deletes, commit.checks, commit.fences
    max_key, max_value = guarantees.max_key_bytes, guarantees.max_value_bytes
    for put in puts:
        validate_key(put.key, max_key)
        if not isinstance(put.value, bytes):
            raise InvalidArgument(f"the value of {put.key!r} must be bytes, not {type(put.value).__name__}")
        if len(put.value) > max_value:
            raise TooLarge(f"the value of {put.key!r} has {len(put.value)} bytes; the limit is {max_value}")
    if len(puts) == 1 and not deletes and not fences and len(checks) < 2 <= guarantees.max_commit_keys:
        # A put or a compare-and-set of one key, as most commits are: nothing else can be wrong with it.
        if checks and checks[0].key is not puts[0].key:
            validate_key(checks[0].key, max_key)
        return
    for key in deletes:
        validate_key(key, max_key)
    for check in checks:
        validate_key(check.key, max_key)
    for fence in fences:
        validate_key(fence.name, max_key)
    written = len(puts) + len(deletes)
    if written > 1 and len({put.key for put in puts}.union(deletes)) != written:
        raise InvalidArgument("a commit names a key twice among its puts and deletes")
    if written > 1 and not guarantees.multi_key_commit:
        raise InvalidArgument(f"{guarantees.engine} writes one key a commit; this one names {written}")
    total = written + len(checks) + len(fences)
    if total > guarantees.max_commit_keys:
        raise TooLarge(f"a commit names {total} keys; the limit is {guarantees.max_commit_keys}")


def validate_prefix(prefix: str) -> None:
    """Raise `InvalidArgument` unless `prefix` is a str of valid Unicode; it may be empty."""
    if type(prefix) is not str:
        raise InvalidArgument(f"a prefix must be a str, not {prefix!r}")
    try:
        prefix.isascii() or prefix.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the prefix {prefix!r} is not valid Unicode: {error.reason}") from None


def validate_scan(prefix: str, after: str, limit: int) -> None:
    """Raise `InvalidArgument` unless these are arguments of `Store.scan`."""
    validate_prefix(prefix)
    validate_prefix(after)
    if type(limit) is not int or not 1 <= limit <= 10_000:
        raise InvalidArgument(f"limit must be between 1 and 10,000, not {limit!r}")


def validate_ttl(ttl_s: float, guarantees: StoreGuarantees) -> None:
    """Raise `InvalidArgument` unless a lease of `ttl_s` seconds is one that the engine can keep."""
    if not (guarantees.min_lease_s <= ttl_s < math.inf):
        raise InvalidArgument(
            f"a lease of {guarantees.engine} must last at least {guarantees.min_lease_s} s and not forever, "
            f"not {ttl_s} s"
        )
