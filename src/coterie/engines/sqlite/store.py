"""`Store` on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import InvalidArgument, LeaseLost
from ...ports.guarantees import Consistency, Durability, Scope
from ...ports.store import (
    Batch,
    Change,
    Commit,
    Entry,
    Fence,
    Page,
    StoreGuarantees,
    validate_commit,
    validate_key,
    validate_prefix,
    validate_scan,
    validate_ttl,
)
from ..common.feed import Feed, FeedWatch
from .hub import closed_error
from .operations import DoCommit, Grant, Renew, Revoke
from .schema import foreign

if TYPE_CHECKING:
    from .engine import SqliteEngine

__all__ = ["SqliteStore"]

_GET = "SELECT value, version, lease FROM kv WHERE key = ?"
_SCAN = "SELECT key, value, version, lease FROM kv WHERE key >= ? AND key > ? {}ORDER BY key LIMIT ?"
_MAX_KEY_BYTES = 1024
_BEYOND = 2**63


class SqliteStore:
    """Linearizable: a read sees the newest commit, because a commit is acknowledged after the file has it."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self._path = engine.config.path
        self._execute = engine.reader.execute
        self._closed = False
        self.feed: Feed = Feed(self, engine.follow)
        engine.hub.feed = self.feed
        full = engine.config.synchronous == "full"
        self._guarantees = StoreGuarantees(
            engine="sqlite",
            consistency=Consistency.LINEARIZABLE,
            durability=Durability.POWER_LOSS if full else Durability.PROCESS_CRASH,
            scope=Scope.MACHINE,
            max_key_bytes=_MAX_KEY_BYTES,
            min_lease_s=0.05,
            notes=("All processes are on one machine; the file must be on a local disk.",),
        )

    @property
    def guarantees(self) -> StoreGuarantees:
        return self._guarantees

    async def get(self, key: str) -> Entry | None:
        validate_key(key, _MAX_KEY_BYTES)
        if self._closed:
            raise closed_error("store")
        try:
            row = self._execute(_GET, (key,)).fetchone()
        except sqlite3.Error as error:
            raise foreign(error, self._path) from error
        return None if row is None else Entry(key, row[0], row[1], row[2])

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        validate_scan(prefix, after, limit)
        self.check()
        try:
            revision = self._revision()
            rows = self._rows(prefix, after, limit + 1)
        except sqlite3.Error as error:
            raise foreign(error, self._path) from error
        return Page(tuple(Entry(*row) for row in rows[:limit]), revision, len(rows) > limit)

    async def commit(self, commit: Commit) -> int:
        validate_commit(commit, self._guarantees)
        # What the file cannot hold would fail the transactions of others, or the connection to the writer.
        for check in commit.checks:
            version = check.version  # Looked at here: a call for each would be felt.
            if type(version) is not int or not -_BEYOND <= version < _BEYOND:
                raise InvalidArgument(f"a version is an int of 64 bits, not {version!r}")
        for put in commit.puts:
            if put.lease and not _is_number(put.lease):
                raise InvalidArgument(f"a lease is an id that grant returned, not {put.lease!r}")
        if commit.fences:
            _validate_tokens(commit.fences)
        if self._closed:
            raise closed_error("store")
        return await self._engine.ask(DoCommit(commit))

    async def grant(self, ttl_s: float) -> int:
        validate_ttl(ttl_s, self._guarantees)
        self.check()
        return await self._engine.ask(Grant(ttl_s))

    async def renew(self, lease: int) -> None:
        self.check()
        if not _is_number(lease):
            raise LeaseLost(f"the lease {lease!r} has never been")
        await self._engine.ask(Renew(lease))

    async def revoke(self, lease: int) -> None:
        self.check()
        if _is_number(lease):
            await self._engine.ask(Revoke(lease))

    def watch(self, prefix: str) -> FeedWatch:
        validate_prefix(prefix)
        return FeedWatch(self.feed, prefix)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.feed.lose_track()

    # For the watches.

    async def snapshot(self, prefix: str) -> Batch:
        """Return all entries under `prefix`, and the revision that they are of."""
        self.check()
        try:
            self._execute("BEGIN")
            try:
                revision = self._revision()
                rows = self._rows(prefix, "", -1)
            finally:
                self._execute("COMMIT")
        except sqlite3.Error as error:
            raise foreign(error, self._path) from error
        changes = tuple(Change(key, value, version) for key, value, version, _ in rows)
        return Batch(revision, changes, snapshot=True)

    def check(self) -> None:
        """Raise `Unavailable` if the store is closed."""
        if self._closed or self._engine.hub.closed:
            self._closed = True
            raise closed_error("store")

    def _revision(self) -> int:
        revision: int = self._execute("SELECT value FROM meta WHERE name = 'revision'").fetchone()[0]
        return revision

    def _rows(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes, int, int]]:
        end = _end_of(prefix)
        if end is None:
            return self._execute(_SCAN.format(""), (prefix, after, limit)).fetchall()
        return self._execute(_SCAN.format("AND key < ? "), (prefix, after, end, limit)).fetchall()


def _is_number(value: object) -> bool:
    """Whether a column of the file can hold `value`."""
    return type(value) is int and -_BEYOND <= value < _BEYOND


def _validate_tokens(fences: Sequence[Fence]) -> None:
    for fence in fences:
        if not _is_number(fence.token):
            raise InvalidArgument(f"a fencing token is an int of 64 bits, not {fence.token!r}")


def _end_of(prefix: str) -> str | None:
    """Return the first text beyond all that start with `prefix`, or None when there is none.

    SQLite compares UTF-8 bytes, which is the order of code points.
    """
    while prefix:
        last = ord(prefix[-1]) + 1
        if last == 0xD800:
            last = 0xE000  # Surrogates are no characters.
        if last <= 0x10FFFF:
            return prefix[:-1] + chr(last)
        prefix = prefix[:-1]
    return None
