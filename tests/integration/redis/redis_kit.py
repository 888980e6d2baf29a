"""What the tests of Redis share: engines, raw commands, and writers that remember what they were told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from coterie import lab
from coterie.conformance.store.fixture import view
from coterie.engines.redis import RedisConfig, RedisEngine
from coterie.errors import CoterieError, Outcome
from coterie.ports.store import Batch, Commit, Put, Store, Watch

__all__ = ["Writers", "eventually", "follow", "open_redis", "raw"]


@asynccontextmanager
async def open_redis(url: str, **bounds: Any) -> AsyncIterator[RedisEngine]:
    config = RedisConfig.from_url(url)
    known = {name: getattr(config, name) for name in RedisConfig.__slots__}
    engine = await RedisEngine.open(RedisConfig(**(known | bounds)))
    try:
        yield engine
    finally:
        await engine.close()


async def raw(cluster: lab.Cluster, *words: str | int, member: int = 0) -> Any:
    """Send one command by the plain client library."""
    client = Redis.from_url(cluster.urls[member])
    try:
        return await client.execute_command(*words)
    finally:
        await client.aclose()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Writers:
    """Some tasks that commit keys of their own, and what became of each."""

    store: Store
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    async def write(self, name: int) -> None:
        number = 0
        while True:
            number += 1
            key = f"{name}/{number}"
            try:
                await self.store.commit(Commit((Put(f"a/{key}", b""), Put(f"b/{key}", b""))))
            except CoterieError as error:
                (self.unknown if error.outcome is Outcome.UNKNOWN else self.refused).add(key)
                await asyncio.sleep(0.01)
            else:
                self.acknowledged.add(key)

    @asynccontextmanager
    async def at_work(self, count: int = 8) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.write(name)) for name in range(count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def more(self, count: int) -> None:
        """Wait until `count` further commits are acknowledged."""
        wanted = len(self.acknowledged) + count
        await eventually(lambda: len(self.acknowledged) >= wanted)

    async def check(self, store: Store) -> None:
        """Demand that the store holds all acknowledged commits, none that was refused, and no halves."""
        async with asyncio.timeout(20):  # A commit of unknown outcome may still arrive.
            found = await view(store)
        halves = [{key.removeprefix(side) for key in found if key.startswith(side)} for side in ("a/", "b/")]
        assert halves[0] == halves[1]
        assert self.acknowledged <= halves[0], f"lost: {sorted(self.acknowledged - halves[0])[:5]}"
        assert not self.refused & halves[0], f"refused, yet there: {sorted(self.refused & halves[0])[:5]}"


async def follow(watch: Watch, state: dict[str, bytes], until: str) -> list[Batch]:
    """Apply batches to `state` until it has the key `until`; return them."""
    batches = []
    async with asyncio.timeout(20):
        while until not in state:
            batch = await anext(watch)
            batches.append(batch)
            if batch.snapshot:
                state.clear()
            for change in batch.changes:
                if change.value is None:
                    state.pop(change.key, None)
                else:
                    state[change.key] = change.value
    return batches
