"""A watch reads the table of changes from where it stands, so it needs no buffer and survives everything."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ...errors import Unavailable
from ...ports.store import Batch, Change

if TYPE_CHECKING:
    from .store import PostgresStore

__all__ = ["PostgresWatch", "range_of"]

_SNAPSHOT = """
SELECT m.revision, k.key, k.value, k.version FROM @.meta m
LEFT JOIN @.kv k ON k.key >= $1 AND ($2::text IS NULL OR k.key < $2) ORDER BY k.key
"""
_CHANGES = """
SELECT m.revision AS newest, m.floor, c.revision, c.key, c.value FROM @.meta m
LEFT JOIN LATERAL (SELECT revision, key, value FROM @.changes
  WHERE revision > $3 AND key >= $1 AND ($2::text IS NULL OR key < $2) ORDER BY revision LIMIT $4) c ON true
ORDER BY c.revision
"""
_PAGE = 1024
"""How many changes are read at once: more than any commit has, but for the end of a lease."""


class PostgresWatch:
    """One follower of a prefix; see `ports.store.Watch`."""

    def __init__(self, store: PostgresStore, prefix: str) -> None:
        self._store = store
        self._range = range_of(prefix)
        self._revision: int | None = None
        """Up to where everything was read; None before the first snapshot."""
        self._ready: deque[Batch] = deque()
        self._closed = False
        self._interrupted: asyncio.Future[None] = store.loop.create_future()

    def interrupt(self) -> None:
        """Let a waiting `__anext__` look again: the watch or the store was closed."""
        if not self._interrupted.done():
            self._interrupted.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while not self._closed:
            self._store.check()
            if self._ready:
                return self._ready.popleft()
            self._store.watches.add(self)
            try:
                await self._race(self._read())
            except Unavailable:
                # The database is away. What is missed meanwhile is read when it is back.
                continue
        raise StopAsyncIteration

    async def _race(self, reading: Coroutine[Any, Any, None]) -> None:
        """Run `reading` until it is done or the watch is interrupted."""
        task = asyncio.ensure_future(reading)
        try:
            await asyncio.wait({task, self._interrupted}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            task.cancel()

    async def _read(self) -> None:
        """Wait for something to be there, and put it on `_ready`."""
        if self._revision is None:
            rows = await self._store.query(_SNAPSHOT, *self._range)
            self._revision = rows[0]["revision"]
            changes = tuple(Change(key, value, version) for _, key, value, version in rows if key is not None)
            self._ready.append(Batch(rows[0]["revision"], changes, snapshot=True))
            self._store.news.saw(rows[0]["revision"])
            return
        await self._store.news.wait_revision(self._revision)
        rows = await self._store.query(_CHANGES, *self._range, self._revision, _PAGE)
        newest, floor = rows[0]["newest"], rows[0]["floor"]
        if floor > self._revision or newest < self._revision:
            # Too far behind, or the database is not the one it was: a standby that lacked the last commits.
            self._revision = None
            return
        found = [
            Batch(revision, tuple(Change(key, value, revision) for _, _, _, key, value in commit))
            for revision, commit in groupby(rows, key=lambda row: row["revision"])
            if revision is not None
        ]
        if len(rows) >= _PAGE:
            found.pop()  # Perhaps only a part of its commit.
            if not found:
                self._revision = None  # The end of a lease that held more.
                return
            newest = found[-1].revision
        self._ready.extend(found)
        self._revision = newest

    async def aclose(self) -> None:
        self._closed = True
        self._store.watches.discard(self)
        self._ready.clear()
        self.interrupt()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


def range_of(prefix: str) -> tuple[str, str | None]:
    """Return the first key that may start with `prefix`, and the first text beyond all that do, if any.

    The collation "C" compares UTF-8 bytes, which is the order of code points.
    """
    if "\0" in prefix:
        return "-", "-"  # The server takes no NUL, and no key has one: nothing is in this range.
    rest = prefix
    while rest:
        last = ord(rest[-1]) + 1
        if last == 0xD800:
            last = 0xE000  # Surrogates are no characters.
        if last <= 0x10FFFF:
            return prefix, rest[:-1] + chr(last)
        rest = rest[:-1]
    return prefix, None
