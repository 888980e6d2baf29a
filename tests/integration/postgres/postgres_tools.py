"""A cluster with engines on it, and a way to look at the database that no fault touches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from coterie.engines.postgres import PostgresEngine, open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.lab import Cluster
from coterie.ports.store import ABSENT, Check, Commit, Put

QUICK = {"recovery_init_sync_method": "syncfs"}
"""Settings with which a server that was killed is back in a quarter of the time."""


@asynccontextmanager
async def engine_at(url: str, **options: object) -> AsyncIterator[PostgresEngine]:
    """Open an engine; `options` go into the query of its URL."""
    mark = "&" if "?" in url else "?"
    query = "&".join(f"{name}={value}" for name, value in options.items())
    address = f"{url}{mark}{query}" if query else url
    engine = await open_engine(address, clock=SystemClock(), entropy=SystemEntropy())
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def back_door(cluster: Cluster, member: int = 0) -> AsyncIterator[Any]:
    """Connect by the member's Unix socket, past all proxies."""
    chosen = cluster.members[member]
    port = cluster.engine.site.network.listening(chosen.name, "client").port
    connection = await asyncpg.connect(
        host=str(chosen.data.parent), port=port, user="postgres", database="coterie", timeout=5
    )
    try:
        yield connection
    finally:
        await connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition` holds; the time only bounds a hang."""
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.005)


def create(key: str, value: bytes = b"") -> Commit:
    """Return a commit that creates `key`: applied twice, it would be refused the second time."""
    return Commit((Put(key, value),), (), (Check(key, ABSENT),))
