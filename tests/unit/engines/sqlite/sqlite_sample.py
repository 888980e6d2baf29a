"""What the tests of the SQLite engine share: engines with a clock and bounds of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from coterie.engines.sqlite import SqliteConfig, SqliteEngine
from coterie.engines.sqlite.writer import Writer
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.ports import Clock
from coterie.ports.store import Commit, Put

__all__ = ["ManualClock", "blocked", "opened", "put", "until", "writer_of"]


class ManualClock(SystemClock):
    """A clock that stands still until it is told."""

    __slots__ = ("now", "wall")

    def __init__(self, now: float) -> None:
        self.now = now
        self.wall = 1e9

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall


@asynccontextmanager
async def opened(path: Path, *, clock: Clock | None = None, **bounds: Any) -> AsyncIterator[SqliteEngine]:
    config = SqliteConfig(path=path, **bounds)
    engine = SqliteEngine(config, SystemClock() if clock is None else clock, SystemEntropy())
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


def put(engine: SqliteEngine, key: str, value: bytes = b"", lease: int = 0) -> asyncio.Future[int]:
    return asyncio.ensure_future(engine.store.commit(Commit((Put(key, value, lease),))))


def writer_of(engine: SqliteEngine) -> Writer:
    assert engine._leader is not None
    return engine._leader.writer


@contextmanager
def blocked(path: Path) -> Iterator[None]:
    """No transaction of the engine gets through meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)
