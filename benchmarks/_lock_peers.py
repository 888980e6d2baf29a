"""Locks of other libraries, for `benchmarks.coordination`. Those that are not installed are left out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias
from urllib.parse import urlsplit

__all__ = ["Opened", "Thread", "peers"]


Opened: TypeAlias = tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]
"""What takes a lock and gives it back once, and what closes the client."""


async def open_redis_py(url: str) -> Opened:
    """redis-py's Lock: SET NX, a script that deletes, and a waiter that asks every 0.1 s."""
    from redis.asyncio import Redis

    client: Any = Redis.from_url(url)

    async def turn() -> None:
        async with client.lock("bench/redis-py", timeout=30):
            pass

    return turn, client.aclose


async def open_aetcd(url: str) -> Opened:
    """aetcd's lock: a lease, a transaction and a watch for each turn."""
    where = urlsplit(url)
    client: Any = import_module("aetcd").Client(host=where.hostname, port=where.port)
    await client.connect()

    async def turn() -> None:
        async with client.lock(b"bench/aetcd", ttl=30):
            pass

    return turn, client.close


class Thread:
    """tooz on etcd's HTTP gateway. It blocks, so each task has a coordinator of its own and a thread."""

    def __init__(self, url: str) -> None:
        coordination: Any = import_module("tooz.coordination")
        where = urlsplit(url)
        self._make: Any = lambda name: coordination.get_coordinator(
            f"etcd3+http://{where.hostname}:{where.port}", name
        )
        self._idle: list[Any] = []
        self._made = 0

    async def turn(self) -> None:
        if not self._idle:
            self._made += 1
            coordinator = self._make(f"bench-{self._made}".encode())
            await asyncio.to_thread(coordinator.start)
            self._idle.append(coordinator)
        coordinator = self._idle.pop()
        await asyncio.to_thread(self._once, coordinator)
        self._idle.append(coordinator)

    @staticmethod
    def _once(coordinator: Any) -> None:
        with coordinator.get_lock(b"bench-tooz"):
            pass

    async def close(self) -> None:
        for coordinator in self._idle:
            await asyncio.to_thread(coordinator.stop)


async def open_tooz(url: str) -> Opened:
    thread = Thread(url)
    return thread.turn, thread.close


def peers(engine: str) -> dict[str, Any]:
    """Return what there is to compare with on an engine, by name."""
    if engine in {"redis", "valkey"}:
        return {"redis-py": open_redis_py}
    if engine != "etcd":
        return {}
    known = {"tooz": (("tooz", "etcd3gw"), open_tooz), "aetcd": (("aetcd",), open_aetcd)}
    return {name: opener for name, (needs, opener) in known.items() if all(map(find_spec, needs))}
