"""What the tests of NATS share: engines, a plain client, and writers that remember what they were told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError

from coterie import lab
from coterie.conformance.store.fixture import view
from coterie.engines.nats import NatsConfig, NatsEngine
from coterie.engines.nats.client import EndableClient
from coterie.engines.system import SystemEntropy
from coterie.errors import Conflict, CoterieError, Outcome, Unavailable
from coterie.ports.store import ABSENT, Check, Commit, Put, Store, Watch

__all__ = ["Writers", "acknowledged", "create", "eventually", "follow", "in_order", "open_nats", "plain"]


@asynccontextmanager
async def open_nats(url: str, **bounds: Any) -> AsyncIterator[NatsEngine]:
    """Open an engine; texts among `bounds` are options of the URL, others fields of its configuration."""
    options = "&".join(f"{name}={value}" for name, value in bounds.items() if isinstance(value, str))
    config = NatsConfig.from_url(f"{url}?{options}" if options else url)
    config = replace(config, **{name: value for name, value in bounds.items() if not isinstance(value, str)})
    engine = await NatsEngine.open(config, SystemEntropy())
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Client]:
    """The plain client library."""

    async def ignore(_: Exception) -> None: ...

    servers = [f"nats://{host}" for host in url.removeprefix("nats://").split(",")]
    client = EndableClient()
    await client.connect(
        servers, error_cb=ignore, dont_randomize=True, max_reconnect_attempts=-1, reconnect_time_wait=0.1
    )
    try:
        yield client
    finally:
        await client.end()


def in_order(cluster: lab.Cluster, *first: int) -> str:
    """Return the cluster's URL with these members in front: a client begins with the first."""
    order = [*first, *({0, 1, 2} - set(first))]
    return "nats://" + ",".join(str(cluster.addresses[index]) for index in order)


async def acknowledged(act: Callable[[], Awaitable[object]]) -> None:
    """Do `act` until it does not fail: busy members tell each other late of a new stream or listener."""
    async with asyncio.timeout(30):
        while True:
            with suppress(NatsError, Unavailable):
                await act()
                return
            await asyncio.sleep(0.05)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def create(key: str) -> Commit:
    """Return a commit that creates two keys: applied twice, it would be refused the second time."""
    return Commit((Put(f"a/{key}", b""), Put(f"b/{key}", b"")), (), (Check(f"a/{key}", ABSENT),))


@dataclass
class Writers:
    """Some tasks that create keys of their own, and what became of each."""

    stores: list[Store]
    acknowledged: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    async def write(self, name: int) -> None:
        store = self.stores[name % len(self.stores)]
        number = 0
        while True:
            number += 1
            key = f"{name}/{number}"
            try:
                self.acknowledged[key] = await store.commit(create(key))
            except Conflict as error:
                raise AssertionError(f"{key} was applied twice") from error
            except CoterieError as error:
                (self.unknown if error.outcome is Outcome.UNKNOWN else self.refused).add(key)
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def at_work(self, count: int = 8) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.write(name)) for name in range(count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended

    async def more(self, count: int) -> None:
        """Wait until `count` further commits are acknowledged."""
        wanted = len(self.acknowledged) + count
        await eventually(lambda: len(self.acknowledged) >= wanted)

    async def check(self, store: Store) -> None:
        """Demand that the store holds all acknowledged commits, none that was refused, and no halves."""
        async with asyncio.timeout(30):  # A commit of unknown outcome may still arrive.
            found = await view(store)
        halves = [
            {key.removeprefix(side): entry.version for key, entry in found.items() if key.startswith(side)}
            for side in ("a/", "b/")
        ]
        assert halves[0] == halves[1]
        assert self.acknowledged.items() <= halves[0].items()
        assert not self.refused & halves[0].keys()


async def follow(watch: Watch, state: dict[str, int], until: str) -> int:
    """Apply batches to `state` (versions) until it has the key `until`; return how many were snapshots."""
    snapshots = 0
    async with asyncio.timeout(50):
        while until not in state:
            batch = await anext(watch)
            if batch.snapshot:
                state.clear()
                snapshots += 1
            for change in batch.changes:
                if change.value is None:
                    state.pop(change.key, None)
                else:
                    state[change.key] = change.version
    return snapshots
