"""Connecting: the handshake of TCP over links that lose, delay and are cut."""

from __future__ import annotations

import asyncio
import errno

from .links import Link
from .stack import Stack, os_error
from .tcp import Endpoint, Listener

__all__ = ["SYN_RETRIES_S", "dial"]

SYN_RETRIES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""The waits between attempts to connect: Linux with tcp_syn_retries = 6, 127 s in all."""


class _Dialing:
    """One attempt to connect, with its repetitions."""

    def __init__(
        self, source: Stack, address: str, port: int, path: str, local: tuple[str, int] | None
    ) -> None:
        self.source = source
        self.address = address
        self.port = port
        self.path = path
        self.local = local
        self.loop = source.fabric.loop
        self.boot = source.boots
        self.future: asyncio.Future[Endpoint] = self.loop.create_future()
        self.waits = iter(SYN_RETRIES_S)

    def attempt(self) -> None:
        """Send a SYN, and another one later if there is no answer."""
        if self.future.done() or self.boot != self.source.boots or not self.source.up:
            return
        fabric = self.source.fabric
        target = self.source if self.path else fabric.locate(self.source, self.address)
        now = self.loop.time()
        if target is not None:
            link = fabric.link(self.source, target)
            if not link.cut and target.up:
                self.loop.call_in_world(link.segment(now, 0), self._arrive, target)
                return
        self._again(now)

    def _again(self, now: float) -> None:
        wait_s = next(self.waits, None)
        if wait_s is not None:
            self.loop.call_in_world(now + wait_s, self.attempt)
        elif not self.future.done():
            self.future.set_exception(os_error(errno.ETIMEDOUT))

    def _arrive(self, target: Stack) -> None:
        """The SYN is at its target, which accepts, refuses or is not there."""
        now = self.loop.time()
        back = self.source.fabric.link(target, self.source)
        if not target.up or back.cut or self.source.fabric.link(self.source, target).cut:
            self._again(now)
            return
        listener = target.unix.get(self.path) if self.path else target.listener_at(self.address, self.port)
        if listener is None:
            self.loop.call_in_world(back.control(now), self._refused)
            return
        if len(listener.queue) >= listener.backlog:
            self._again(now)
            return
        client, server = self._pair(target, listener, back)
        # The connection is the listener's when the handshake is complete, and the dialler's one way earlier.
        self.loop.call_in_world(back.control(now), self._established, client, server, listener)

    def _pair(self, target: Stack, listener: Listener, back: Link) -> tuple[Endpoint, Endpoint]:
        fabric = self.source.fabric
        there: tuple[str, int] | str
        here: tuple[str, int] | str
        if self.path:
            here, there = "", self.path
        else:
            here = self.local or (self.source.local_address(self.address), self.source.free_port())
            there = (target.local_address(self.address), listener.port)
        client = Endpoint(self.source, fabric.link(self.source, target), here, there)
        server = Endpoint(target, back, there, here)
        client.peer, server.peer = server, client
        return client, server

    def _refused(self) -> None:
        if not self.future.done():
            self.future.set_exception(os_error(errno.ECONNREFUSED))

    def _established(self, client: Endpoint, server: Endpoint, listener: Listener) -> None:
        if self.future.done() or client.closed:  # Nobody waits any more.
            client.reset()
            server.vanish()
            return
        self.future.set_result(client)
        arrival = client.out.segment(self.loop.time(), 0)
        client.expect(arrival)
        self.loop.call_in_world(arrival, self._accepted, server, listener)

    def _accepted(self, server: Endpoint, listener: Listener) -> None:
        if listener.closed or server.closed:
            server.reset()
        else:
            listener.offer(server)


def dial(
    source: Stack, address: str, port: int, *, path: str = "", local: tuple[str, int] | None = None
) -> asyncio.Future[Endpoint]:
    """Connect from `source`; the future fails with the `OSError` that `connect` would."""
    dialing = _Dialing(source, address, port, path, local)
    dialing.attempt()
    return dialing.future
