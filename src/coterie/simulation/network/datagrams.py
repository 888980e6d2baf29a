"""The loop's side of a datagram socket."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from ..loop import VirtualLoop
from .sockets import SimulatedSocket

__all__ = ["DatagramTransport"]


class DatagramTransport(asyncio.DatagramTransport):
    """Carries a datagram protocol over a simulated socket. Its buffer is always empty: UDP never waits."""

    def __init__(
        self,
        loop: VirtualLoop,
        sock: SimulatedSocket,
        protocol: asyncio.DatagramProtocol,
        waiter: asyncio.Future[None],
        context: contextvars.Context,
    ) -> None:
        self._port = sock.datagrams()
        extra: dict[str, Any] = {"socket": sock, "sockname": sock.getsockname()}
        if self._port.remote is not None:
            extra["peername"] = self._port.remote
        super().__init__(extra)
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._context = context
        self._closing = False
        self._waiting = False
        loop.call_soon(self._begin, waiter, context=context)

    def _begin(self, waiter: asyncio.Future[None]) -> None:
        self._protocol.connection_made(self)
        self._port.on_readable = self._wake
        if not waiter.cancelled():
            waiter.set_result(None)
        self._wake()

    def _wake(self) -> None:
        if not self._waiting and not self._closing and self._port.readable:
            self._waiting = True
            self._loop.call_soon(self._read, context=self._context)

    def _read(self) -> None:
        self._waiting = False
        if self._closing:
            return
        try:
            found = self._port.receive()
        except OSError as error:
            self._protocol.error_received(error)
        else:
            if found is not None:
                self._protocol.datagram_received(*found)
        self._wake()

    def sendto(self, data: Any, addr: Any = None) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._closing:
            return
        if self._port.remote is not None and addr not in {None, self._port.remote}:
            raise ValueError(f"Invalid address: must be None or {self._port.remote}")
        target = None
        if addr is not None:
            stack = self._sock.stack
            target = (stack.fabric.resolve(stack, addr[0])[0], addr[1])
        try:
            self._port.send(bytes(data), target)
        except OSError as error:
            self._loop.call_soon(self._protocol.error_received, error, context=self._context)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (16 * 1024, 64 * 1024)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.DatagramProtocol)  # noqa: S101 - as asyncio expects
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._tell_lost, error, context=self._context)

    def _tell_lost(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
