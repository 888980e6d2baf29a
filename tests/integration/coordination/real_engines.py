"""The engines that coordination is tried on, each by the URL that a program would name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from coterie import lab

__all__ = ["ENGINES", "engine_url"]

ENGINES = ["sqlite", "valkey", "postgres", "etcd", "nats"]


@asynccontextmanager
async def engine_url(name: str, folder: Path) -> AsyncIterator[str]:
    """Start the engine, with one member, if it needs starting."""
    if name == "sqlite":
        yield f"sqlite:///{folder}/engine.db"
        return
    async with lab.start(name) as cluster:
        yield cluster.url.replace("redis://", "valkey://") if name == "valkey" else cluster.url
