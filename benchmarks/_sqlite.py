"""What a person would write by hand on sqlite3, with the engine's settings and table.

A get on the loop's thread, and a writer thread with a queue, futures and group commit (WAL,
synchronous=FULL). It checks nothing, counts no revision, tells no watcher and serves one process.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from pathlib import Path
from typing import Any

from coterie.engines.sqlite import SqliteEngine, open_engine
from coterie.engines.system import SystemClock, SystemEntropy

__all__ = ["GET", "KEYS", "SWAP", "UPSERT", "VALUE", "RawWriter", "connect_raw", "open_sqlite"]

KEYS = 1000
VALUE = b"v" * 100
GET = "SELECT value, version, lease FROM kv WHERE key = ?"
UPSERT = (
    "INSERT INTO kv VALUES (?, ?, ?, 0) ON CONFLICT (key) DO UPDATE"
    " SET value = excluded.value, version = excluded.version, lease = excluded.lease"
)
SWAP = "UPDATE kv SET value = ?, version = ? WHERE key = ? AND version = ?"

Statement = tuple[str, tuple[Any, ...]]


async def open_sqlite(path: Path) -> SqliteEngine:
    """Open the engine at `path`, an absolute one, as a node does."""
    return await open_engine(f"sqlite:///{path}", clock=SystemClock(), entropy=SystemEntropy())


def connect_raw(path: Path) -> sqlite3.Connection:
    """Open `path` with the engine's settings and table."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB NOT NULL,"
        " version INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID"
    )
    return connection


class RawWriter:
    """Group commit by hand."""

    def __init__(self, path: Path) -> None:
        self._sql = connect_raw(path)
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[Statement, asyncio.Future[int]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def write(self, statement: Statement) -> asyncio.Future[int]:
        """Return the future of the number of rows written."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._queue.put((statement, future))
        return future

    def _work(self) -> None:
        execute = self._sql.execute
        while (first := self._queue.get()) is not None:
            batch = [first]
            try:
                while len(batch) < 1024 and (more := self._queue.get_nowait()) is not None:
                    batch.append(more)
            except queue.Empty:
                pass
            execute("BEGIN IMMEDIATE")
            results = [(future, execute(*statement).rowcount) for statement, future in batch]
            execute("COMMIT")
            self._loop.call_soon_threadsafe(self._resolve, results)
        self._sql.close()

    @staticmethod
    def _resolve(results: list[tuple[asyncio.Future[int], int]]) -> None:
        for future, rows in results:
            future.set_result(rows)

    def close(self) -> None:
        """End the thread, once everything before is written."""
        self._queue.put(None)
        self._thread.join()
