"""`Store` on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ...errors import LeaseLost, Outcome, Unavailable
from ...ports.store import (
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
from ..common.shared import fail
from .link import Link
from .news import News
from .operations import grant, renew, revoke, steps_of
from .watch import PostgresWatch, range_of

if TYPE_CHECKING:
    from .engine import PostgresEngine

__all__ = ["PostgresStore"]

_GET = "SELECT value, version, lease FROM @.kv WHERE key = $1"
_GET_MANY = "SELECT key, value, version, lease FROM @.kv WHERE key = ANY($1::text[])"
_SCAN = """
SELECT m.revision, k.key, k.value, k.version, k.lease FROM @.meta m
LEFT JOIN LATERAL (SELECT * FROM @.kv WHERE key >= $1 AND key > $3 AND ($2::text IS NULL OR key < $2)
  ORDER BY key LIMIT $4) k ON true ORDER BY k.key
"""
_BEYOND = 2**63


class PostgresStore:
    """Linearizable: every read is of the primary, and sees what was committed before it was sent."""

    def __init__(self, engine: PostgresEngine, guarantees: StoreGuarantees) -> None:
        self._engine = engine
        self._guarantees = guarantees
        self._gets = Gets(engine)
        self._closed = False
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.news: News = engine.news
        self.watches: set[PostgresWatch] = set()

    @property
    def guarantees(self) -> StoreGuarantees:
        return self._guarantees

    async def get(self, key: str) -> Entry | None:
        validate_key(key, self._guarantees.max_key_bytes)
        self.check()
        return await self._gets.get(key)

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        validate_scan(prefix, after, limit)
        self.check()
        # The server takes no NUL. No key has one, so the keys beyond "a\0b" are those beyond "a".
        after = after.partition("\0")[0]
        rows = await self.query(_SCAN, *range_of(prefix), after, limit + 1)
        if rows[0]["key"] is None:
            return Page((), rows[0]["revision"], more=False)
        entries = tuple(Entry(key, value, version, lease) for _, key, value, version, lease in rows[:limit])
        return Page(entries, rows[0]["revision"], more=len(rows) > limit)

    async def commit(self, commit: Commit) -> int:
        validate_commit(commit, self._guarantees)
        steps = steps_of(commit)
        self.check()
        return await self._engine.commits.ask(steps, sum(len(put.value) for put in commit.puts))

    async def grant(self, ttl_s: float) -> int:
        validate_ttl(ttl_s, self._guarantees)
        self.check()
        lease = await self._engine.commits.ask(grant(ttl_s))
        self.news.look()
        return lease

    async def renew(self, lease: int) -> None:
        self.check()
        if type(lease) is not int or not 0 < lease < _BEYOND:
            raise LeaseLost(f"the lease {lease!r} has never been")
        await self._engine.commits.ask(renew(lease))

    async def revoke(self, lease: int) -> None:
        self.check()
        if type(lease) is int and 0 < lease < _BEYOND:
            await self._engine.commits.ask(revoke(lease))

    def watch(self, prefix: str) -> PostgresWatch:
        validate_prefix(prefix)
        return PostgresWatch(self, prefix)

    async def close(self) -> None:
        self._closed = True
        for watch in list(self.watches):
            watch.interrupt()
        self.watches.clear()

    # For the watches.

    async def query(self, statement: str, *values: Any) -> list[Any]:
        """Ask a question that changes nothing, on any connection."""
        return await self._engine.query(statement, *values)

    def check(self) -> None:
        """Raise `Unavailable` if the store is closed."""
        if self._closed:
            raise Unavailable("the store is closed", outcome=Outcome.NOT_APPLIED)


class Gets:
    """Reads of single keys: those that come while one question is under way share the next."""

    def __init__(self, engine: PostgresEngine) -> None:
        self._link: Link = engine.gets
        self._loop = asyncio.get_running_loop()
        self._timeout_s = engine.config.operation_timeout_s
        self._one = _GET.replace("@", engine.config.schema)
        self._many = _GET_MANY.replace("@", engine.config.schema)
        self._waiting: list[tuple[str, asyncio.Future[Entry | None]]] = []
        self._worker: asyncio.Task[None] | None = None

    def get(self, key: str) -> asyncio.Future[Entry | None]:
        """Return the future of the entry."""
        future: asyncio.Future[Entry | None] = self._loop.create_future()
        self._waiting.append((key, future))
        if self._worker is None:
            self._worker = self._loop.create_task(self._work(), name="coterie-postgres-gets")
        return future

    async def _work(self) -> None:
        try:
            while self._waiting:
                # Whatever is asked from here on must not see less than what is committed by then.
                asked, self._waiting = self._waiting, []
                try:
                    found = await self._ask({key for key, future in asked if not future.done()})
                except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits
                    fail((future for _, future in asked), error)
                else:
                    for key, future in asked:
                        if not future.done():
                            future.set_result(found.get(key))
        finally:
            self._worker = None

    async def _ask(self, keys: set[str]) -> dict[str, Entry]:
        deadline = self._loop.time() + self._timeout_s
        if len(keys) == 1:
            [key] = keys
            rows = await self._link.ask_here(self._one, (key,), deadline)
            return {key: Entry(key, *rows[0])} if rows else {}
        rows = await self._link.ask_here(self._many, (list(keys),), deadline) if keys else []
        return {row[0]: Entry(*row) for row in rows}
