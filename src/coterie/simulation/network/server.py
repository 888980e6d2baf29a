"""The loop's side of a listener: `asyncio.Server`, over simulated listeners."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..loop import VirtualLoop
from .sockets import SimulatedSocket
from .tcp import Listener

if TYPE_CHECKING:
    from .transport import StreamTransport

__all__ = ["SimulatedServer"]

Accept = Callable[[SimulatedSocket, "SimulatedServer", contextvars.Context], object]


class SimulatedServer(asyncio.AbstractServer):
    """Accepts connections and hands each to `accept`, in the context of `start_serving`."""

    def __init__(
        self,
        loop: VirtualLoop,
        sockets: Sequence[SimulatedSocket],
        accept: Accept,
        context: contextvars.Context,
    ) -> None:
        self._loop = loop
        self._sockets: list[SimulatedSocket] | None = list(sockets)
        self._accept = accept
        self._context = context
        self._serving = False
        self._transports: dict[StreamTransport, None] = {}
        self._waiters: list[asyncio.Future[None]] | None = []
        self._forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<SimulatedServer sockets={self.sockets!r}>"

    @property
    def sockets(self) -> tuple[SimulatedSocket, ...]:
        return tuple(self._sockets or ())

    def get_loop(self) -> VirtualLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        self.start()
        await asyncio.sleep(0)

    def start(self) -> None:
        """Accept from now on. Idempotent."""
        if self._serving or self._sockets is None:
            return
        self._serving = True
        for sock in self._sockets:
            listener = sock.listener
            assert listener is not None  # noqa: S101 - servers are made of listening sockets
            listener.on_readable = self._waker(listener)
            if listener.queue:
                listener.on_readable()

    def _waker(self, listener: Listener) -> Callable[[], object]:
        return lambda: self._loop.call_soon(self._take, listener, context=self._context)

    def _take(self, listener: Listener) -> None:
        while listener.queue and self._serving:
            self._accept(SimulatedSocket.of(self._loop, listener.queue.popleft()), self, self._context)

    async def serve_forever(self) -> None:
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self.start()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            try:
                self.close()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._forever = None

    def close(self) -> None:
        sockets, self._sockets = self._sockets, None
        if sockets is None:
            return
        self._serving = False
        for sock in sockets:
            sock.close()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        if not self._transports:
            self._wake()

    def close_clients(self) -> None:
        for transport in list(self._transports):
            transport.close()

    def abort_clients(self) -> None:
        for transport in list(self._transports):
            transport.abort()

    async def wait_closed(self) -> None:
        # Before 3.12 a server that is closed already was not waited for, and programs rely on what they have.
        if self._waiters is None or (sys.version_info < (3, 12) and self._sockets is None):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def attach(self, transport: StreamTransport) -> None:
        """Count a connection that was accepted."""
        self._transports[transport] = None

    def release(self, transport: StreamTransport) -> None:
        """Count a connection that has ended."""
        self._transports.pop(transport, None)
        if not self._transports and self._sockets is None:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()
        await self.wait_closed()
