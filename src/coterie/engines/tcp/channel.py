"""The calling end: a channel towards one address, and the connection that it keeps."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from math import inf
from typing import Any

import msgspec

from ...context import Metadata
from ...errors import (
    DeadlineExceeded,
    Outcome,
    PermissionDenied,
    ProtocolError,
    Unavailable,
)
from ...ports.entropy import Entropy
from ..common.calls import failure_of, refusal_of, too_large
from ..common.connecting import wait_to_send
from ..common.shared import heard
from ..common.timers import Deadlines
from ._handshake import CallerHandshake
from .config import Address, WireConfig
from .connection import Connection, tls_error
from .messages import (
    Cancel,
    Credit,
    Datagram,
    End,
    Failed,
    Goodbye,
    Item,
    Message,
    Open,
    Refused,
    Reply,
    Request,
)

__all__ = ["TcpChannel"]

_Raw = msgspec.Raw


class _Expired(Exception):
    """The time of a request or stream is over."""


class _Incoming:
    """A stream as its reader sees it: what has come and was not taken yet, and how it ended."""

    __slots__ = ("deadline", "end", "items", "taken", "waiter")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.items: deque[Any] = deque()
        self.end: BaseException | None = None
        self.taken = 0
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def finish(self, end: BaseException) -> None:
        if self.end is None:
            self.end = end
            self.wake()


class CallingConnection(Connection):
    """A connection to a listener: pairs answers with what was asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: WireConfig, nonce: bytes) -> None:
        super().__init__(loop, config)
        self._handshake = CallerHandshake(config.cluster_key, nonce)
        self.ready: asyncio.Future[None] = loop.create_future()
        self.pending: dict[int, tuple[asyncio.Future[Any], float]] = {}
        """The requests under way: where the reply goes, and the deadline."""
        self.streams: dict[int, _Incoming] = {}
        self.deadlines: Deadlines = Deadlines(loop, self._sweep)
        self.last_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(self._handshake.hello())

    def received(self, message: Message) -> None:
        if type(message) is Reply:
            call = self.pending.get(message.id)
            if call is not None and not call[0].done():
                call[0].set_result(message.body)
        elif not self.greeted:
            proof = self._handshake.receive(message)
            if proof is not None:
                self.send(proof)
            self.established()
            self.ready.set_result(None)
        elif type(message) is Failed:
            self._end(message.id, failure_of(message))
        elif type(message) is Refused:
            why = f"the peer refused the call: {message.message}"
            self._end(message.id, refusal_of(message.code, why))
        elif type(message) is Item:
            self._item(message)
        elif type(message) is End:
            self._end(message.id, StopAsyncIteration())
        elif type(message) is Goodbye:
            self.draining = True
            self.judge()
        else:
            self.ponder(message)

    def worth_a_warning(self) -> bool:
        return not isinstance(self.reason, Unavailable)  # Nothing is wrong with a peer that drains.

    def _item(self, message: Item) -> None:
        stream = self.streams.get(message.id)
        if stream is not None:
            if len(stream.items) >= self.config.credit_items:
                raise ProtocolError("the peer sent more items than it had credit for")
            stream.items.append(message.body)
            stream.wake()

    def _sweep(self, now: float) -> float:
        """End what is over at `now`; return the earliest deadline of the rest."""
        deadlines = {id_: deadline for id_, (_, deadline) in self.pending.items()}
        deadlines.update((id_, stream.deadline) for id_, stream in self.streams.items())
        for id_, deadline in deadlines.items():
            if deadline <= now:
                self._end(id_, _Expired())
                self.send(Cancel(id_))
                if id_ in self.streams:
                    self.streams[id_].deadline = inf  # Once: its reader may take its time to notice.
        return min((deadline for deadline in deadlines.values() if deadline > now), default=inf)

    def _end(self, id_: int, error: Exception) -> None:
        call = self.pending.get(id_)
        if call is not None and not call[0].done():
            call[0].set_exception(error)
        stream = self.streams.get(id_)
        if stream is not None:
            stream.finish(error)

    def lost(self, reason: Exception) -> None:
        self.deadlines.close()
        if not self.ready.done():
            self.ready.set_exception(reason)
            self.ready.exception()  # It may be that nobody waits for it any more.
        unknown = f"the connection to {self.peer} was lost while the call was under way: {reason}"
        for future, _ in self.pending.values():
            if not future.done():
                future.set_exception(Unavailable(unknown, outcome=Outcome.UNKNOWN))
        for stream in self.streams.values():
            stream.finish(Unavailable(unknown, outcome=Outcome.UNKNOWN))


class TcpChannel:
    """Calls one address. Connects at the first use, and again after a loss, with growing waits."""

    def __init__(
        self,
        address: str,
        config: WireConfig,
        entropy: Entropy,
        *,
        closed: bool = False,
    ) -> None:
        self._address = Address.parse(address)
        self._config = config
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._create_future = self._loop.create_future
        self._max_body_bytes = config.max_body_bytes
        self._connection: CallingConnection | None = None
        self._connecting: asyncio.Task[CallingConnection] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._closed = closed

    @property
    def address(self) -> str:
        return str(self._address)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def pending(self) -> int:
        connection = self._connection
        return 0 if connection is None else len(connection.pending) + len(connection.streams)

    async def request(
        self, target: str, body: bytes, *, timeout_s: float, metadata: Metadata | None = None
    ) -> bytes | memoryview | msgspec.Raw:
        if len(body) > self._max_body_bytes:
            raise too_large(len(body), self._max_body_bytes)
        if timeout_s <= 0:
            raise DeadlineExceeded(f"there was no time left for {target}", outcome=Outcome.NOT_APPLIED)
        # This runs for each call: nothing is created that is not needed, and what is an attribute and
        # no method is called by way of a local variable, for which CPython 3.11 has a quick path.
        time, create_future = self._time, self._create_future
        deadline = time() + timeout_s
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._connected(deadline)
            timeout_s = deadline - time()
        id_ = connection.last_id = connection.last_id + 1
        future = create_future()
        pending = connection.pending
        pending[id_] = future, deadline
        if deadline < connection.deadlines.next:
            connection.deadlines.watch(deadline)
        try:
            connection.send(Request(id_, target, int(timeout_s * 1000) or 1, _Raw(body), metadata))
            reply: msgspec.Raw = await future
        except _Expired:
            raise DeadlineExceeded(f"{target} gave no answer in time") from None
        except asyncio.CancelledError:
            connection.send(Cancel(id_))
            raise
        finally:
            del pending[id_]
        return reply

    async def stream(
        self, target: str, body: bytes, *, timeout_s: float | None, metadata: Metadata | None = None
    ) -> AsyncGenerator[bytes | memoryview | msgspec.Raw, None]:
        if len(body) > self._max_body_bytes:
            raise too_large(len(body), self._max_body_bytes)
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceeded(f"there was no time left for {target}", outcome=Outcome.NOT_APPLIED)
        deadline = None if timeout_s is None else self._time() + timeout_s
        connection = await self._connected(deadline or self._time() + self._config.connect_timeout_s)
        id_ = connection.last_id = connection.last_id + 1
        incoming = connection.streams[id_] = _Incoming(inf if deadline is None else deadline)
        credit = self._config.credit_items
        timeout_ms = 0 if deadline is None else max(1, int((deadline - self._time()) * 1000))
        if incoming.deadline < connection.deadlines.next:
            connection.deadlines.watch(incoming.deadline)
        ended = False
        try:
            connection.send(Open(id_, target, timeout_ms, credit, _Raw(body), metadata))
            while True:
                while incoming.items:
                    item = incoming.items.popleft()
                    incoming.taken += 1
                    if incoming.taken * 2 >= credit:
                        connection.send(Credit(id_, incoming.taken))
                        incoming.taken = 0
                    yield item
                if incoming.end is not None:
                    ended = True
                    if isinstance(incoming.end, StopAsyncIteration):
                        return
                    if isinstance(incoming.end, _Expired):
                        raise DeadlineExceeded(f"{target} did not end in time")
                    raise incoming.end
                incoming.waiter = self._loop.create_future()
                await incoming.waiter
        finally:
            del connection.streams[id_]
            if not ended:
                connection.send(Cancel(id_))

    def datagram(self, body: bytes) -> None:
        connection = self._connection
        if connection is not None and connection.open:
            if not connection.congested and len(body) <= self._config.max_body_bytes:
                connection.send(Datagram(bytes(body)))
        elif not self._closed and self._connecting is None and self._time() >= self._not_before:
            self._connecting = self._begin_to_connect()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        connection = self._connection
        if connection is not None and not connection.closed.done():
            connection.close(Unavailable("the channel was closed"))
            await connection.closed

    async def _connected(self, deadline: float) -> CallingConnection:
        """Return a connection that takes calls. Raises `Unavailable`, not applied, when there is none."""
        while True:
            if self._closed:
                raise Unavailable(f"the channel to {self.address} is closed", outcome=Outcome.NOT_APPLIED)
            connection = self._connection
            if connection is not None and connection.open:
                if connection.draining:
                    raise Unavailable(f"{self.address} is draining", outcome=Outcome.NOT_APPLIED)
                if not connection.congested:
                    return connection
                waiting: Any = connection.writable()
            else:
                if self._time() < self._not_before:
                    raise Unavailable(
                        f"{self.address} could not be reached, {self._failures} times in a row",
                        outcome=Outcome.NOT_APPLIED,
                    )
                if self._connecting is None:
                    self._connecting = self._begin_to_connect()
                waiting = asyncio.shield(self._connecting)
            await wait_to_send(waiting, deadline, address=self.address, closed=lambda: self._closed)

    def _begin_to_connect(self) -> asyncio.Task[CallingConnection]:
        connecting = self._loop.create_task(self._connect())
        connecting.add_done_callback(heard)  # It may be that nobody waits for it: a datagram does not.
        return connecting

    async def _connect(self) -> CallingConnection:
        try:
            connection = await self._open_connection()
        except (OSError, ProtocolError, PermissionDenied, Unavailable, TimeoutError) as error:
            self._failures += 1
            wait_s = min(self._config.longest_backoff_s, 0.01 * 2.0 ** min(self._failures, 20))
            self._not_before = self._time() + wait_s * self._entropy.random()
            if isinstance(error, PermissionDenied):
                raise
            raise Unavailable(
                f"{self.address} cannot be reached: {_reason(error)}", outcome=Outcome.NOT_APPLIED
            ) from error
        finally:
            self._connecting = None
        self._failures = 0
        self._not_before = 0.0
        self._connection = connection
        return connection

    async def _open_connection(self) -> CallingConnection:
        config, address, loop = self._config, self._address, self._loop

        def protocol() -> CallingConnection:
            return CallingConnection(loop, config, self._entropy.secret(16))

        async with asyncio.timeout(config.connect_timeout_s):
            if address.path:
                transport, connection = await loop.create_unix_connection(protocol, address.path)
            else:
                name = (config.server_hostname or address.host) if config.client_ssl else None
                transport, connection = await loop.create_connection(
                    protocol, address.host, address.port, ssl=config.client_ssl, server_hostname=name
                )
            try:
                await connection.ready
            except BaseException:
                transport.abort()
                raise
        connection.peer = self.address
        return connection


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {tls_error(error)}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error) or "the connection was closed while it was made"
    return str(error)
