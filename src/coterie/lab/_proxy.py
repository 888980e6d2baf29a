"""TCP proxies that can be cut, slowed and reset: what needs no privilege and no kernel module.

A cut keeps bytes back instead of dropping them, as retransmission would deliver them after the cut is
healed; a lost segment costs a retransmission's time. Both sides see what TCP shows them in a real cut:
silence. A connection that is made during a cut is neither accepted nor refused as far as data goes.
"""

from __future__ import annotations

import asyncio
import enum
import random
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from . import _linux

__all__ = ["Link", "Proxy"]

_RETRANSMISSION_S = 0.2
_MAX_HELD_BYTES = 256 * 1024


@dataclass
class Link:
    """One direction between two hosts: the conditions, and the flows that obey them."""

    cut: bool = False
    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    flows: set[_Flow] = field(default_factory=set)
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def set(self, *, cut: bool, latency_s: float, jitter_s: float, loss: float) -> None:
        """Change the conditions for what is sent from now on; a heal lets held bytes go."""
        self.cut, self.latency_s, self.jitter_s, self.loss = cut, latency_s, jitter_s, loss
        if not cut:
            for flow in tuple(self.flows):
                flow.push()
            for future in self.waiting:
                if not future.done():
                    future.set_result(None)
            self.waiting.clear()

    @property
    def clear(self) -> bool:
        return not (self.cut or self.latency_s or self.jitter_s or self.loss)

    def delay_s(self, chance: random.Random) -> float:
        """Draw how long a segment takes."""
        delay = self.latency_s + chance.random() * self.jitter_s
        while self.loss and chance.random() < self.loss:
            delay += _RETRANSMISSION_S
        return delay

    async def wait_open(self) -> None:
        """Wait until the link is not cut."""
        while self.cut:
            future = asyncio.get_running_loop().create_future()
            self.waiting.add(future)
            await future


class _End(enum.Enum):
    """What comes after the last byte of a direction."""

    SHUTDOWN = "the sender will write no more"
    CLOSED = "the sender closed the connection"
    RESET = "the sender reset the connection, or died"


class _Flow:
    """The bytes of one connection in one direction, delivered in order when the link lets them."""

    def __init__(self, link: Link, chance: random.Random) -> None:
        self.link = link
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.ended = False
        self.on_end: Callable[[_End], None] = lambda _: None
        self._chance = chance
        self._held: deque[tuple[float, bytes | _End]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        link.flows.add(self)

    def feed(self, data: bytes | _End) -> None:
        """Take what the source sent; stop reading from it when too much is held."""
        if not self._held and self.sink is not None and self.link.clear:
            self._deliver(self.sink, data)
            return
        due = asyncio.get_running_loop().time() + self.link.delay_s(self._chance)
        if self._held:
            due = max(due, self._held[-1][0])
        self._held.append((due, data))
        if isinstance(data, bytes):
            self._bytes += len(data)
        if self._bytes > _MAX_HELD_BYTES and self.source is not None and not self._paused:
            self._paused = True
            self.source.pause_reading()
        self.push()

    def push(self) -> None:
        """Deliver what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._held and self.sink is not None and not self.link.cut:
            due, data = self._held[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.push)
                return
            self._held.popleft()
            if isinstance(data, bytes):
                self._bytes -= len(data)
            self._deliver(self.sink, data)
        if self._paused and self._bytes <= _MAX_HELD_BYTES and self.source is not None:
            self._paused = False
            if not self.source.is_closing():
                self.source.resume_reading()

    def _deliver(self, sink: asyncio.Transport, data: bytes | _End) -> None:
        if isinstance(data, _End):
            self.ended = True
            if data is _End.SHUTDOWN and sink.can_write_eof() and not sink.is_closing():
                with suppress(OSError, RuntimeError):  # the other side was faster
                    sink.write_eof()
            self.on_end(data)
        elif not sink.is_closing():
            sink.write(data)

    def drop(self) -> None:
        """Forget all that is held."""
        self.link.flows.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._held.clear()


class _Pair:
    """One connection through the proxy: two flows, and the two sockets between which they run."""

    def __init__(self, there: Link, back: Link, chance: random.Random) -> None:
        self.flows = (_Flow(there, chance), _Flow(back, chance))
        self.open = True
        for flow in self.flows:
            flow.on_end = self._ended

    def caller(self) -> asyncio.Protocol:
        return _Side(self, *self.flows)

    def target(self) -> asyncio.Protocol:
        return _Side(self, *reversed(self.flows))

    def _ended(self, end: _End) -> None:
        if end is not _End.SHUTDOWN or all(flow.ended for flow in self.flows):
            self.close(reset=end is _End.RESET)

    def close(self, *, reset: bool) -> None:
        """Close both sockets."""
        self.open = False
        for flow in self.flows:
            flow.drop()
            transport = flow.source
            if transport is not None and not transport.is_closing():
                if reset:
                    _linger(transport.get_extra_info("socket"))
                    transport.abort()
                else:
                    transport.close()


class _Side(asyncio.Protocol):
    """One end of a connection: feeds the flow that leaves it, is the sink of the one that comes to it."""

    def __init__(self, pair: _Pair, outgoing: _Flow, incoming: _Flow) -> None:
        self._pair, self._outgoing, self._incoming = pair, outgoing, incoming

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._outgoing.source = self._incoming.sink = cast("asyncio.Transport", transport)
        self._incoming.push()

    def data_received(self, data: bytes) -> None:
        self._outgoing.feed(data)

    def eof_received(self) -> bool:
        self._outgoing.feed(_End.SHUTDOWN)
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        if (source := self._incoming.source) is not None and not source.is_closing():
            source.pause_reading()

    def resume_writing(self) -> None:
        if (source := self._incoming.source) is not None and not source.is_closing():
            source.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._incoming.drop()
        if self._pair.open:  # the other end learns of it when the link lets it
            self._outgoing.feed(_End.RESET if exc is not None else _End.CLOSED)
            if self._outgoing.sink is None:
                self._pair.close(reset=False)


class Proxy:
    """Listens on the loopback interface for one target; who calls is known beforehand or asked for.

    `links` finds the link of two hosts; `source` names the caller of an accepted connection's peer address
    (None: not known, the connection is reset). Upstream sockets are made in `namespace`.
    """

    def __init__(
        self,
        target: tuple[str, int],
        host: str,
        source: Callable[[tuple[str, int]], str | None],
        links: Callable[[str, str], Link],
        namespace: int | None,
    ) -> None:
        self._target, self._host, self._source, self._links = target, host, source, links
        self._namespace = namespace
        self._chance = random.Random()  # noqa: S311 - delays are no secret
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pairs: dict[_Pair, set[str]] = {}

    async def start(self, port: int) -> int:
        """Listen on `port`, or on a free one, and return it."""
        listener = socket.create_server(("127.0.0.1", port), backlog=256)
        listener.setblocking(False)
        self._listener = listener
        self._keep(self._accept(listener))
        return int(listener.getsockname()[1])

    def _keep(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, address = await loop.sock_accept(listener)
            self._keep(self._serve(connection, address))

    async def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        source = self._source(address)
        if source is None:
            _linger(connection)
            connection.close()
            return
        there, back = self._links(source, self._host), self._links(self._host, source)
        pair = _Pair(there, back, self._chance)
        self._pairs[pair] = {source, self._host}
        loop = asyncio.get_running_loop()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.create_connection(pair.caller, sock=connection)
            await there.wait_open()
            await back.wait_open()
            upstream = await self._connect(loop)
            if not pair.open:  # the caller gave up meanwhile
                upstream.close()
                return
            await loop.create_connection(pair.target, sock=upstream)
        except OSError:
            pair.close(reset=True)
        self._pairs = {pair: ends for pair, ends in self._pairs.items() if pair.open}

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        with _linux.entered(self._namespace):
            upstream = socket.socket()
        try:
            upstream.setblocking(False)
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(upstream, self._target)
        except BaseException:
            upstream.close()
            raise
        return upstream

    def reset(self, a: str | None = None, b: str | None = None) -> int:
        """Reset the connections between two hosts, or all, and return how many there were."""
        chosen = [pair for pair, ends in self._pairs.items() if pair.open and (a is None or ends == {a, b})]
        for pair in chosen:
            pair.close(reset=True)
        return len(chosen)

    async def close(self) -> None:
        """Stop listening and reset what is open."""
        self.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()


def _linger(connection: socket.socket) -> None:
    with suppress(OSError):  # it may be closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
