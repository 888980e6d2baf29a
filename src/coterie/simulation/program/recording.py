"""Ports that tell a `Notebook` what passes through them, and change nothing else that a program can see."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import msgspec

from ...app import App
from ...context import Metadata, current
from ...errors import CoterieError, Outcome
from ...node import Ports
from ...ports.store import Batch, Change, Commit, Entry, Page, Store, StoreGuarantees, Watch
from ...ports.wire import Channel, Handlers, Listener, Request, Wire, WireGuarantees
from ...state import Transaction
from .evidence import FencedWrite, Seen
from .notebook import TAG_BYTES, Notebook

__all__ = ["Gate", "RecordedStore", "RecordedWire", "recorded", "watch_methods", "watch_transactions"]

_QUIET: ContextVar[bool] = ContextVar("coterie_quiet", default=False)
"""Whether the code runs for the check of a promise, on whatever host."""
_HEADER = b"\x92\xcf"
"""What a request begins with: an array of two, of which the first is an unsigned integer of 8 bytes."""
_HEADER_BYTES = len(_HEADER) + 8


class Gate:
    """Lets clients begin nothing while it is closed, so that promises can be looked at."""

    def __init__(self) -> None:
        self._open: asyncio.Future[None] | None = None

    def close(self) -> None:
        self._open = self._open or asyncio.get_running_loop().create_future()

    def open(self) -> None:
        if self._open is not None:
            self._open.set_result(None)
            self._open = None

    async def passed(self) -> None:
        """Return when the gate is open."""
        while self._open is not None:
            await asyncio.shield(self._open)


def recorded(
    ports: Ports, notebook: Notebook, host: str, *, gate: Gate | None = None, quiet: bool = False
) -> Ports:
    """Return `ports` of `host` that are noted. A client has a `gate`; a check of promises is `quiet`."""
    return dataclasses.replace(
        ports,
        store=RecordedStore(ports.store, notebook, host, gate),
        wire=RecordedWire(ports.wire, notebook, host, gate, quiet=quiet),
    )


def watch_transactions(app: App, notebook: Notebook) -> None:
    """Let the notebook know what transactions have read, whether or not their commits check it."""
    for declared in app.transactions:
        if not getattr(declared.function, "is_watched", False):
            declared.function = _watched(declared.function, notebook)


def _watched(function: Callable[..., Awaitable[Any]], notebook: Notebook) -> Callable[..., Awaitable[Any]]:
    async def watched(txn: Transaction, *args: Any, **kwargs: Any) -> Any:
        result = await function(txn, *args, **kwargs)
        # What it has read and will write is nobody else's business, so there is no public name for it.
        read, written = txn._reads, {*txn._puts, *txn._deletes}  # noqa: SLF001
        notebook.has_read({key: entry.version if entry else 0 for key, entry in read.items()}, written)
        return result

    watched.is_watched = True  # type: ignore[attr-defined]
    return watched


def watch_methods(app: App, notebook: Notebook) -> None:
    """Let the notebook know when methods run whose replies are kept."""
    for service in app.services.values():
        for method in service.methods.values():
            function = getattr(service.cls, method.name)
            if method.keeps_replies and not getattr(function, "is_watched", False):
                setattr(service.cls, method.name, _noting(function, method.target, notebook))


def _noting(function: Callable[..., Awaitable[Any]], target: str, notebook: Notebook) -> Any:
    @functools.wraps(function)
    async def noting(*args: Any, **kwargs: Any) -> Any:
        metadata = current().metadata
        if metadata is None or metadata.idempotency_key is None:
            return await function(*args, **kwargs)
        ran = notebook.begin(socket.gethostname(), "run", target, metadata.idempotency_key)
        notebook.under(target, metadata.idempotency_key).runs.append(ran)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            notebook.error(ran, error)
            raise
        notebook.ok(ran)
        return result

    noting.is_watched = True  # type: ignore[attr-defined]
    return noting


class RecordedStore:
    """A `Store` whose reads and writes of the program's maps are noted."""

    def __init__(self, inner: Store, notebook: Notebook, host: str, gate: Gate | None) -> None:
        self._inner = inner
        self._notebook = notebook
        self._host = host
        self._gate = gate
        self.grant: Callable[[float], Coroutine[Any, Any, int]] = inner.grant
        self.renew: Callable[[int], Coroutine[Any, Any, None]] = inner.renew
        self.revoke: Callable[[int], Coroutine[Any, Any, None]] = inner.revoke
        self.close: Callable[[], Coroutine[Any, Any, None]] = inner.close

    @property
    def guarantees(self) -> StoreGuarantees:
        return self._inner.guarantees

    async def _guarded(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do `work`, if this is a client's store only while the gate is open."""
        if self._gate is None:
            return await work()
        await self._gate.passed()
        self._notebook.enter()
        try:
            return await work()
        finally:
            self._notebook.leave()

    async def get(self, key: str) -> Entry | None:
        if not key.startswith(self._notebook.prefix):
            return await self._inner.get(key)
        found: Entry | None = await self._guarded(lambda: self._get(key))
        return found

    async def _get(self, key: str) -> Entry | None:
        book = self._notebook
        noted = book.begin(self._host, "get", book.name(key))
        kept = book.keep(noted)
        try:
            entry = await self._inner.get(key)
        except BaseException as error:
            book.error(noted, error)
            raise
        plain, label = (None, None) if entry is None else book.saw(entry)
        book.ok(noted, label)
        if kept:
            book.seen.append(Seen(noted, key, 0 if entry is None else entry.version))
        return plain

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        if not prefix.startswith(self._notebook.prefix):
            return await self._inner.scan(prefix, after=after, limit=limit)
        page: Page = await self._guarded(lambda: self._inner.scan(prefix, after=after, limit=limit))
        return Page(tuple(self._notebook.saw(entry)[0] for entry in page.entries), page.revision, page.more)

    async def commit(self, commit: Commit) -> int:
        prefix = self._notebook.prefix
        if not any(
            key.startswith(prefix)
            for key in (*(put.key for put in commit.puts), *commit.deletes, *(c.key for c in commit.checks))
        ):
            return await self._inner.commit(commit)
        reads = self._notebook.just_read(commit)
        revision: int = await self._guarded(lambda: self._commit(commit, reads))
        return revision

    async def _commit(self, commit: Commit, reads: dict[str, int]) -> int:
        book = self._notebook
        tagged, parts, whole = book.prepare(self._host, commit)
        whole.read(reads)
        try:
            revision = await self._inner.commit(tagged)
        except BaseException as error:
            book.not_committed(parts, whole, error)
            raise
        book.committed(parts, whole, revision)
        if whole.writes and parts:
            book.fenced += [FencedWrite(parts[0], fence, revision) for fence in commit.fences]
        return revision

    def watch(self, prefix: str) -> Watch:
        inner = self._inner.watch(prefix)
        return _Untagged(inner) if prefix.startswith(self._notebook.prefix) else inner


class _Untagged:
    """A watch of a map, without the numbers of the writes."""

    def __init__(self, inner: Watch) -> None:
        self._inner = inner
        self.aclose = inner.aclose

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        batch = await self._inner.__anext__()
        changes = tuple(
            change if change.value is None else Change(change.key, change.value[:-TAG_BYTES], change.version)
            for change in batch.changes
        )
        return Batch(batch.revision, changes, batch.snapshot)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


class RecordedWire:
    """A `Wire` whose requests carry a number, by which the caller's and the handler's side are matched."""

    def __init__(self, inner: Wire, notebook: Notebook, host: str, gate: Gate | None, *, quiet: bool) -> None:
        self._inner = inner
        self._notebook = notebook
        self._host = host
        self._gate = gate
        self._quiet = quiet
        self.close: Callable[[], Coroutine[Any, Any, None]] = inner.close

    @property
    def guarantees(self) -> WireGuarantees:
        return self._inner.guarantees

    def connect(self, address: str) -> Channel:
        return _RecordedChannel(
            self._inner.connect(address), self._notebook, self._host, self._gate, quiet=self._quiet
        )

    async def listen(self, address: str, handlers: Handlers) -> Listener:
        book, host = self._notebook, self._host

        async def request(received: Request) -> bytes:
            call = book.called(_unpacked(received))
            if call is None:
                return await handlers.request(received)
            ran = book.begin(host, "handle", call.key)
            call.handled.append(ran)
            _QUIET.set(call.quiet)
            if not call.quiet:
                book.enter()
            try:
                reply = await handlers.request(received)
            except BaseException as error:
                book.error(ran, error)
                raise
            finally:
                if not call.quiet:
                    book.leave()
            book.ok(ran)
            return reply

        async def stream(received: Request) -> AsyncGenerator[bytes, None]:
            streamed = book.streamed(_unpacked(received))
            if streamed is None:
                async with aclosing(handlers.stream(received)) as items:
                    async for item in items:
                        yield item
                return
            ran = book.begin(host, "handle", streamed.noted.key)
            streamed.handled.append(ran)
            try:
                async with aclosing(handlers.stream(received)) as items:
                    async for item in items:
                        streamed.under_way.append(bytes(item))
                        yield item
            except BaseException as error:
                book.error(ran, error)
                raise
            book.ok(ran)
            streamed.sent_all = True

        return await self._inner.listen(
            address, dataclasses.replace(handlers, request=request, stream=stream)
        )


def _unpacked(received: Request) -> int:
    """Take the number off a request, and return it."""
    body = bytes(received.body)
    received.body = body[_HEADER_BYTES:]
    return int.from_bytes(body[len(_HEADER) : _HEADER_BYTES], "big")


class _RecordedChannel:
    def __init__(
        self, inner: Channel, notebook: Notebook, host: str, gate: Gate | None, *, quiet: bool
    ) -> None:
        self._inner = inner
        self._notebook = notebook
        self._host = host
        self._gate = gate
        self._quiet = quiet
        self.address = inner.address
        self.datagram = inner.datagram
        self.close = inner.close

    @property
    def pending(self) -> int:
        return self._inner.pending

    async def request(
        self, target: str, body: bytes, *, timeout_s: float, metadata: Metadata | None = None
    ) -> bytes | memoryview | msgspec.Raw:
        if target.startswith("_"):
            return await self._inner.request(target, _packed(0, body), timeout_s=timeout_s, metadata=metadata)
        if self._gate is not None:
            await self._gate.passed()
        book = self._notebook
        call = book.call(
            self._host, target, self.address.partition(":")[0], quiet=self._quiet or _QUIET.get()
        )
        counted = self._gate is not None
        if counted:
            book.enter()
        try:
            reply = await self._inner.request(
                target, _packed(call.number, body), timeout_s=timeout_s, metadata=metadata
            )
        except BaseException as error:
            book.error(call, error)
            call.refused = isinstance(error, CoterieError) and error.outcome is Outcome.NOT_APPLIED
            raise
        finally:
            if counted:
                book.leave()
        book.ok(call)
        if metadata is not None and metadata.idempotency_key is not None:
            book.under(target, metadata.idempotency_key).replies.append((call, bytes(reply)))
        return reply

    async def stream(
        self, target: str, body: bytes, *, timeout_s: float | None, metadata: Metadata | None = None
    ) -> AsyncGenerator[bytes | memoryview | msgspec.Raw, None]:
        book = self._notebook
        noted = not target.startswith("_")
        streamed = book.stream(self._host, target, self.address.partition(":")[0]) if noted else None
        packed = _packed(streamed.number if streamed else 0, body)
        found = self._inner.stream(target, packed, timeout_s=timeout_s, metadata=metadata)
        try:
            async with aclosing(found) as items:  # type: ignore[type-var]  # it has what the port says
                async for item in items:
                    if streamed is not None:
                        streamed.got(bytes(item))
                    yield item
        except BaseException as error:
            if streamed is not None:
                book.error(streamed.noted, error)
            raise
        if streamed is not None:
            book.ok(streamed.noted, streamed.received)
            streamed.came_to_its_end()


def _packed(number: int, body: bytes) -> bytes:
    return _HEADER + number.to_bytes(8, "big") + bytes(body)
