"""`Store` on NATS: a state machine that every client has a copy of, driven by one stream."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...errors import InvalidArgument, LeaseLost, Outcome, Unavailable
from ...ports.store import (
    Batch,
    Change,
    Commit,
    Entry,
    Page,
    StoreGuarantees,
    validate_commit,
    validate_key,
    validate_prefix,
    validate_scan,
    validate_ttl,
)
from ..common.feed import Feed, FeedWatch
from ._machine import DoCommit, Grant, Renew, Revoke

if TYPE_CHECKING:
    from .engine import NatsEngine

__all__ = ["RESERVED", "NatsStore"]

RESERVED = "\0"
"""What the keys of the engine itself begin with; no key of a program can hold it."""
_BEHIND_RESERVED = "\0\U0010ffff"
_BEYOND = 2**63


class NatsStore:
    """Reads are of this client's copy, once the stream has confirmed that it is up to date."""

    def __init__(self, engine: NatsEngine, guarantees: StoreGuarantees) -> None:
        self._engine = engine
        self._guarantees = guarantees
        self._closed = False
        self.feed: Feed = Feed(self, self._follow)

    @property
    def guarantees(self) -> StoreGuarantees:
        return self._guarantees

    async def get(self, key: str) -> Entry | None:
        validate_key(key, self._guarantees.max_key_bytes)
        self.check()
        await self._engine.replica.catch_up()
        return self._engine.replica.machine.get(key)

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        validate_scan(prefix, after, limit)
        self.check()
        await self._engine.replica.catch_up()
        machine = self._engine.replica.machine
        if RESERVED in prefix:
            return Page((), machine.revision, more=False)
        return machine.scan(prefix, max(after, _BEHIND_RESERVED), limit)

    async def commit(self, commit: Commit) -> int:
        validate_commit(commit, self._guarantees)
        _validate_numbers(commit)
        self.check()
        return await self._engine.replica.ask(DoCommit(commit))

    async def grant(self, ttl_s: float) -> int:
        validate_ttl(ttl_s, self._guarantees)
        self.check()
        ttl_ms = math.ceil(ttl_s * 1000)
        if ttl_ms >= _BEYOND:
            raise InvalidArgument(f"a lease of nats must last less than 290 million years, not {ttl_s} s")
        return await self._engine.replica.ask(Grant(ttl_ms))

    async def renew(self, lease: int) -> None:
        self.check()
        if not _is_number(lease):
            raise LeaseLost(f"the lease {lease!r} has never been")
        await self._engine.replica.ask(Renew(lease))

    async def revoke(self, lease: int) -> None:
        self.check()
        if _is_number(lease):
            await self._engine.replica.ask(Revoke(lease))

    def watch(self, prefix: str) -> FeedWatch:
        validate_prefix(prefix)
        return FeedWatch(self.feed, prefix)

    async def close(self) -> None:
        self._closed = True
        self.feed.lose_track()

    # For the watches.

    def check(self) -> None:
        """Raise `Unavailable` if the store is closed."""
        if self._closed or self._engine.closed:
            raise Unavailable("the store is closed", outcome=Outcome.NOT_APPLIED)

    async def snapshot(self, prefix: str) -> Batch:
        """Return all entries under `prefix`."""
        self.check()
        await self._engine.replica.catch_up()
        batch = self._engine.replica.machine.snapshot(prefix)
        return Batch(batch.revision, _of_programs(batch.changes), snapshot=True)

    async def _follow(self) -> None:
        """Nothing: the copy follows the stream whether there are watches or not."""

    def publish(self, revision: int, changes: tuple[Change, ...]) -> None:
        """Tell the watches of a commit."""
        self.feed.publish(revision, _of_programs(changes))


def _of_programs(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    if any(change.key.startswith(RESERVED) for change in changes):
        return tuple(change for change in changes if not change.key.startswith(RESERVED))
    return changes


def _is_number(value: object) -> bool:
    return type(value) is int and -_BEYOND <= value < _BEYOND


def _validate_numbers(commit: Commit) -> None:
    """Raise `InvalidArgument` for what a message cannot hold."""
    for put in commit.puts:
        if put.lease and not _is_number(put.lease):
            raise InvalidArgument(f"a lease is an id that grant returned, not {put.lease!r}")
    for check in commit.checks:
        if not _is_number(check.version):
            raise InvalidArgument(f"a version is an int of 64 bits, not {check.version!r}")
    for fence in commit.fences:
        if not _is_number(fence.token):
            raise InvalidArgument(f"a fencing token is an int of 64 bits, not {fence.token!r}")
