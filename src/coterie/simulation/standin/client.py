"""A client of a stand-in: the Store and Log ports on one host, and the engine that bundles them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from ...engines.memory import MemoryLog, MemoryStore
from ...errors import Outcome, Unavailable
from ...ports.guarantees import Consistency, Durability, Scope
from ...ports.log import Bounds, LogGuarantees, Record, Segment
from ...ports.store import (
    Batch,
    Commit,
    Entry,
    Page,
    StoreGuarantees,
    Watch,
    validate_commit,
    validate_key,
    validate_prefix,
    validate_scan,
    validate_ttl,
)
from ..network.stack import Stack
from .courier import Courier
from .server import StandIn

__all__ = ["StandInClient", "StandInLog", "StandInStore"]

_PROBE_S = 2.0
"""How long a watch that hears nothing waits before it asks whether the engine is still there."""
_WAIT_S = 1.0
"""How long the engine lets a client wait for a record before it answers that there is none yet."""


class StandInClient:
    """`Engine` as one host sees it."""

    name = "simulated"

    def __init__(self, server: StandIn, source: Stack) -> None:
        self._store = StandInStore(Courier(server, source, server.timeout_s))
        self._log = StandInLog(Courier(server, source, server.timeout_s))

    @property
    def store(self) -> StandInStore:
        return self._store

    @property
    def log(self) -> StandInLog:
        return self._log

    def statistics(self) -> dict[str, int | float | str]:
        return {"watches": self._store.watches}

    async def close(self) -> None:
        await self._store.close()
        await self._log.close()


class StandInStore:
    """`Store` at the other end of a link."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._server = courier.server
        self._inner: MemoryStore = courier.server.memory.store
        self._open: dict[StandInWatch, None] = {}
        weak = self._server.weak
        self._guarantees = StoreGuarantees(
            engine="simulated",
            consistency=Consistency.LINEARIZABLE,
            durability=Durability.MACHINE_LOSS,
            scope=Scope.NETWORK,
            min_lease_s=0.3,
            # A weak engine claims what its users believe of it: the point is to see what follows.
            notes=tuple(f"weak: {each}" for each in sorted(weak)),
        )

    @property
    def guarantees(self) -> StoreGuarantees:
        return self._guarantees

    @property
    def watches(self) -> int:
        return len(self._open)

    async def get(self, key: str) -> Entry | None:
        validate_key(key, self._guarantees.max_key_bytes)
        return await self._courier.call(lambda: self._server.get(key))

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        validate_scan(prefix, after, limit)
        return await self._courier.call(lambda: self._inner.scan(prefix, after=after, limit=limit))

    async def commit(self, commit: Commit) -> int:
        validate_commit(commit, self._guarantees)
        return await self._courier.call(lambda: self._inner.commit(commit), writes=True)

    async def grant(self, ttl_s: float) -> int:
        validate_ttl(ttl_s, self._guarantees)
        return await self._courier.call(lambda: self._inner.grant(ttl_s), writes=True)

    async def renew(self, lease: int) -> None:
        await self._courier.call(lambda: self._inner.renew(lease), writes=True)

    async def revoke(self, lease: int) -> None:
        await self._courier.call(lambda: self._inner.revoke(lease), writes=True)

    def watch(self, prefix: str) -> Watch:
        validate_prefix(prefix)
        watch = StandInWatch(self._courier, self._inner, prefix, self._open)
        self._open[watch] = None
        return watch

    async def close(self) -> None:
        for watch in list(self._open):
            watch.fail(Unavailable("the store is closed", outcome=Outcome.NOT_APPLIED))
        self._open.clear()
        self._courier.close()


class StandInWatch:
    """`Watch` at the other end of a link: the engine sends batches, in order, for as long as both live."""

    def __init__(
        self, courier: Courier, store: MemoryStore, prefix: str, known: dict[StandInWatch, None]
    ) -> None:
        self._courier = courier
        self._store = store
        self._prefix = prefix
        self._known = known
        self._batches: deque[Batch] = deque()
        self._news = asyncio.Event()
        self._error: BaseException | None = None
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        """The engine's side; it belongs to the engine's process."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        if self._task is None and not self._closed and self._error is None:
            await self._courier.call(self._subscribe)
        while not self._closed:
            if self._batches:
                return self._batches.popleft()
            if self._error is not None:
                raise self._error
            self._news.clear()
            try:
                async with asyncio.timeout(_PROBE_S):
                    await self._news.wait()
            except TimeoutError:
                await self._probe()
        raise StopAsyncIteration

    async def _subscribe(self) -> None:
        if self._task is None:
            self._task = self._courier.server.world.loop.create_task(self._feed())

    async def _feed(self) -> None:
        """Send every batch to the client; runs at the engine."""
        server = self._courier.server
        async with self._store.watch(self._prefix) as batches:
            async for batch in batches:
                self._courier.back.send(lambda batch=batch: self._arrive(batch), self._wanted)  # type: ignore[misc]
                while len(self._batches) > 1000 and self._wanted():  # noqa: ASYNC110
                    await asyncio.sleep(server.timeout_s)  # The client is slow, or paused.

    def _wanted(self) -> bool:
        return not self._closed and self._error is None

    def _arrive(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._news.set()

    async def _probe(self) -> None:
        """Raise `Unavailable` unless the engine answers, and still feeds this watch."""
        process = self._courier.server.process
        alive = await self._courier.call(self._is_fed)
        if not alive or process is not self._courier.server.process:
            self.fail(Unavailable("the watch was lost", outcome=Outcome.NOT_APPLIED))

    async def _is_fed(self) -> bool:
        scope = getattr(self._task, "scope", None)
        return self._task is not None and not self._task.done() and scope is self._courier.server.scope

    def fail(self, error: BaseException) -> None:
        """End the watch with `error`, after what has come."""
        if self._error is None:
            self._error = error
            self._news.set()

    async def aclose(self) -> None:
        self._closed = True
        self._known.pop(self, None)
        self._news.set()
        task = self._task
        if task is not None and not task.done():
            self._courier.there.send(task.cancel, lambda: True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


class StandInLog:
    """`Log` at the other end of a link."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._inner: MemoryLog = courier.server.memory.log
        self._closed = False
        self._guarantees = LogGuarantees(
            engine="simulated", durability=Durability.MACHINE_LOSS, scope=Scope.NETWORK
        )

    @property
    def guarantees(self) -> LogGuarantees:
        return self._guarantees

    async def _call(self, work: Any, *, writes: bool = False) -> Any:
        if self._closed:
            raise Unavailable("the log is closed", outcome=Outcome.NOT_APPLIED)
        return await self._courier.call(work, writes=writes)

    async def create(self, topic: str, partitions: int) -> None:
        await self._call(lambda: self._inner.create(topic, partitions), writes=True)

    async def topics(self) -> dict[str, int]:
        found: dict[str, int] = await self._call(self._inner.topics)
        return found

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        offset: int = await self._call(lambda: self._inner.append(topic, partition, records), writes=True)
        return offset

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        segment: Segment = await self._call(lambda: self._inner.read(topic, partition, offset, limit=limit))
        return segment

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        async def up_to() -> bool:
            try:
                async with asyncio.timeout(_WAIT_S):
                    await self._inner.wait(topic, partition, offset)
            except TimeoutError:
                return False
            return True

        while not await self._call(up_to):
            pass

    async def bounds(self, topic: str, partition: int) -> Bounds:
        bounds: Bounds = await self._call(lambda: self._inner.bounds(topic, partition))
        return bounds

    async def trim(self, topic: str, partition: int, before: int) -> None:
        await self._call(lambda: self._inner.trim(topic, partition, before), writes=True)

    async def delete(self, topic: str) -> None:
        await self._call(lambda: self._inner.delete(topic), writes=True)

    async def close(self) -> None:
        self._closed = True
        self._courier.close()
