"""A cluster with engines on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coterie.engines.etcd import EtcdEngine, open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.ports.store import ABSENT, Check, Commit, Put


@asynccontextmanager
async def engine_at(url: str, **options: object) -> AsyncIterator[EtcdEngine]:
    """Open an engine; `options` go into the query of its URL."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    engine = await open_engine(
        f"{url}?{query}" if query else url, clock=SystemClock(), entropy=SystemEntropy()
    )
    try:
        yield engine
    finally:
        await engine.close()


def create(key: str, value: bytes = b"") -> Commit:
    """Return a commit that creates `key`: applied twice, it would be refused the second time."""
    return Commit((Put(key, value),), (), (Check(key, ABSENT),))
