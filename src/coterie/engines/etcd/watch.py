"""A watch: a snapshot, then etcd's own watch from the next revision, on whichever member answers."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc
import grpc.aio

from ...errors import CoterieError, Unavailable
from ...ports.store import Batch, Change
from .messages import KeyValue, Watched, read_watch, watch_request
from .refusals import Compacted, judge

if TYPE_CHECKING:
    from .store import EtcdStore

__all__ = ["EtcdWatch"]

_WATCH = "/etcdserverpb.Watch/Watch"
_MAX_READY = 256
"""How many batches wait for a slow reader before no more are taken from the server, which keeps them."""
_RETRY_S = 0.1


class EtcdWatch:
    """One follower of a prefix; see `ports.store.Watch`."""

    def __init__(self, store: EtcdStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._revision: int | None = None
        """Up to where everything is on `_ready`, or was."""
        self._ready: deque[Batch] = deque()
        self._error: CoterieError | None = None
        self._closed = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    def interrupt(self) -> None:
        """Stop asking the server, and let a waiting `__anext__` look again: something was closed."""
        if self._pump is not None:
            self._pump.cancel()
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while not self._closed:
            self._store.check()
            if self._ready:
                self._room.set()
                return self._ready.popleft()
            if self._error is not None:
                error, self._error, self._pump = self._error, None, None
                raise error
            if self._pump is None:
                self._store.watches.add(self)
                self._pump = asyncio.create_task(self._run(), name="coterie-etcd-watch")
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    async def _run(self) -> None:
        while True:
            try:
                if self._revision is None:
                    await self._put(await self._store.snapshot(self._prefix))
                await self._follow()
                continue
            except Compacted:
                self._revision = None
                continue
            except Unavailable:
                pass  # What is missed meanwhile is read when a member answers.
            except CoterieError as error:
                self._error = error
                self._news.set()
                return
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                self._error = Unavailable(f"the watch failed: {error!r}")
                self._news.set()
                return
            await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        """Put what is committed after `_revision` on `_ready`, until the stream ends."""
        client = self._store.client
        member = client.member
        start, end = self._store.range_of(self._prefix)
        try:
            metadata = await client.metadata(member)
            stream = client.open_stream(member, _WATCH, metadata)
            try:
                await stream.write(watch_request(start, end, (self._revision or 0) + 1))
                while (data := await stream.read()) is not grpc.aio.EOF:
                    message = read_watch(data)
                    if message.compact_revision:
                        raise Compacted
                    if message.canceled:
                        raise Unavailable(f"etcd ended a watch: {message.reason}")
                    for batch in self._batches(message):
                        await self._put(batch)
                verdict = judge(await stream.code(), await stream.details() or "", client.config.place)
            finally:
                stream.cancel()
        except grpc.aio.AioRpcError as error:
            verdict = judge(error.code(), error.details() or "", client.config.place)
        if verdict.leave:
            client.leave(member)
        if verdict.log_in:
            client.log_out()
            raise Unavailable("the login has expired")
        raise verdict.error

    def _batches(self, message: Watched) -> list[Batch]:
        # A message holds whole commits, in order, perhaps several.
        return [
            Batch(revision, tuple(self._change(gone, kv) for gone, kv in events))
            for revision, events in groupby(message.events, key=lambda event: event[1].mod_revision)
        ]

    def _change(self, gone: bool, kv: KeyValue) -> Change:
        return Change(self._store.key_of(kv.key), None if gone else kv.value, kv.mod_revision)

    async def _put(self, batch: Batch) -> None:
        while len(self._ready) >= _MAX_READY:
            self._room.clear()
            await self._room.wait()
        self._ready.append(batch)
        self._revision = batch.revision
        self._news.set()

    async def aclose(self) -> None:
        self._closed = True
        self._store.watches.discard(self)
        self._ready.clear()
        self.interrupt()
        if self._pump is not None:
            await asyncio.wait([self._pump])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()
