"""`Store` on Redis and Valkey."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...errors import Conflict, Fenced, InvalidArgument, LeaseLost, Outcome, Unavailable
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
from . import scripts

if TYPE_CHECKING:
    from .engine import RedisEngine

__all__ = ["RedisStore"]

_EXACT = 2**53
"""Lua's numbers are exact below it."""
_TOKENS = 2**63
_BEYOND_UTF8 = b"\xff"


class RedisStore:
    """Each call is one script of the server, which runs one after the other."""

    def __init__(self, engine: RedisEngine, guarantees: StoreGuarantees) -> None:
        self._engine = engine
        self._guarantees = guarantees
        self._closed = False
        self._run = engine.link.run
        self._keep = engine.config.max_kept_changes
        self.feed: Feed = Feed(self, engine.follower.follow)

    @property
    def guarantees(self) -> StoreGuarantees:
        return self._guarantees

    async def get(self, key: str) -> Entry | None:
        validate_key(key, self._guarantees.max_key_bytes)
        self.check()
        row = await self._run(scripts.GET, self._keep, key)
        return None if row is None else _entry(key, row)

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        validate_scan(prefix, after, limit)
        self.check()
        low, high = _range(prefix.encode(), after.encode())
        revision, more, rows = await self._run(scripts.SCAN, self._keep, low, high, limit + 1, 1)
        return Page(_entries(rows), int(revision), more == b"1")

    async def commit(self, commit: Commit) -> int:
        validate_commit(commit, self._guarantees)
        self.check()
        answer = await self._run(scripts.COMMIT, self._keep, *_arguments(commit))
        if answer[0] == b"ok":
            return int(answer[1])
        raise _refused(commit, answer)

    async def grant(self, ttl_s: float) -> int:
        validate_ttl(ttl_s, self._guarantees)
        self.check()
        ttl_us = math.ceil(ttl_s * 1e6)
        if ttl_us >= _EXACT // 2:
            raise InvalidArgument(f"a lease of redis must last less than a century, not {ttl_s} s")
        return int(await self._run(scripts.GRANT, self._keep, ttl_us))

    async def renew(self, lease: int) -> None:
        self.check()
        if not _is_lease(lease) or not await self._run(scripts.RENEW, self._keep, lease):
            raise _lease_lost(lease)

    async def revoke(self, lease: int) -> None:
        self.check()
        if _is_lease(lease):
            await self._run(scripts.REVOKE, self._keep, lease)

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
        """Return all entries under `prefix`, in one go: a batch never shows a part of a commit."""
        self.check()
        low, high = _range(prefix.encode(), b"")
        revision, _more, rows = await self._run(scripts.SCAN, self._keep, low, high, -1, 0)
        changes = (Change(entry.key, entry.value, entry.version) for entry in _entries(rows))
        return Batch(int(revision), tuple(changes), snapshot=True)


def _range(prefix: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Return the bounds, as ZRANGEBYLEX takes them, of the keys that start with `prefix` beyond `after`."""
    low = b"(" + after if after >= prefix and after else b"[" + prefix if prefix else b"-"
    return low, b"(" + prefix + _BEYOND_UTF8 if prefix else b"+"


def _entry(key: str, row: bytes) -> Entry:
    version, lease, value = row.split(b" ", 2)
    return Entry(key, value, int(version), int(lease))


def _entries(rows: list[bytes]) -> tuple[Entry, ...]:
    return tuple(_entry(key.decode(), row) for key, row in zip(rows[::2], rows[1::2], strict=True))


def _arguments(commit: Commit) -> list[bytes | str | int]:
    words: list[bytes | str | int] = [
        len(commit.fences),
        len(commit.checks),
        len(commit.puts),
        len(commit.deletes),
    ]
    for fence in commit.fences:
        if type(fence.token) is not int or not -_TOKENS <= fence.token < _TOKENS:
            raise InvalidArgument(f"a fencing token is an int of 64 bits, not {fence.token!r}")
        words += (fence.name, f"{fence.token + _TOKENS:020}")
    for check in commit.checks:
        if type(check.version) is not int:
            raise InvalidArgument(f"a version is an int, not {check.version!r}")
        words += (check.key, check.version)
    for put in commit.puts:
        if put.lease and not _is_lease(put.lease):
            raise InvalidArgument(f"a lease is an id that grant returned, not {put.lease!r}")
        words += (put.key, put.lease, put.value)
    words += commit.deletes
    return words


def _refused(commit: Commit, answer: list[bytes]) -> Conflict | LeaseLost:
    if answer[0] == b"conflict":
        key = answer[1].decode()
        wanted = ", ".join(str(check.version) for check in commit.checks if check.key == key)
        return Conflict(f"{key!r} is at version {int(answer[2])}, not {wanted}")
    if answer[0] == b"fenced":
        name, seen = answer[1].decode(), int(answer[2]) - _TOKENS
        given = ", ".join(str(fence.token) for fence in commit.fences if fence.name == name)
        return Fenced(f"the fence {name!r} has seen token {seen}, later than {given}")
    return _lease_lost(int(answer[1]))


def _is_lease(lease: object) -> bool:
    return type(lease) is int and 0 < lease < _EXACT


def _lease_lost(lease: int) -> LeaseLost:
    return LeaseLost(f"the lease {lease} has ended", hint="grant a new one and write its entries again")
