"""The kernel's side of datagram sockets."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from .stack import Stack, os_error

__all__ = ["MAX_DATAGRAM", "RECEIVE_BUFFER", "Port"]

MAX_DATAGRAM = 65_507
"""The largest payload that UDP over IPv4 carries."""

RECEIVE_BUFFER = 212_992
"""How many bytes wait for a program before datagrams are dropped: Linux's net.core.rmem_default."""

_OVERHEAD = 300
"""What each waiting datagram counts besides its payload, about as in Linux."""


class Port:
    """A bound datagram socket. `send` never waits; `on_readable` tells that something came."""

    def __init__(self, stack: Stack, address: str, port: int) -> None:
        if not stack.owns(address):
            raise os_error(errno.EADDRNOTAVAIL)
        if port and stack.port_at(address, port) is not None:
            raise os_error(errno.EADDRINUSE)
        self.stack = stack
        self.local: tuple[str, int] = (address, port or stack.free_port(datagrams=True))
        self.remote: tuple[str, int] | None = None
        """Where a connected socket sends to, and the only place that it takes from."""
        self.closed: bool = False
        self.error: OSError | None = None
        """What an earlier datagram came back with; told once, to a connected socket only."""
        self.on_readable: Callable[[], object] | None = None
        self._waiting: deque[tuple[bytes, tuple[str, int]]] = deque()
        self._waiting_size = 0
        stack.ports[self.local] = self

    @property
    def readable(self) -> bool:
        return bool(self._waiting) or self.error is not None

    def send(self, data: bytes, remote: tuple[str, int] | None = None) -> None:
        """Send `data`; it may be lost. Raises `OSError` as `sendto` does."""
        target = remote or self.remote
        if target is None:
            raise os_error(errno.EDESTADDRREQ)
        if len(data) > MAX_DATAGRAM:
            raise os_error(errno.EMSGSIZE)
        fabric = self.stack.fabric
        loop = fabric.loop
        loop.trace.mix_bytes(data)
        stack = fabric.locate(self.stack, target[0])
        if stack is None:
            return
        source = (self.stack.local_address(target[0]), self.local[1])
        now = loop.time()
        arrivals = fabric.link(self.stack, stack).datagram(now, len(data))
        for arrival in arrivals:
            loop.call_in_world(arrival, self._arrive, stack, data, source, target)
        if loop.trace.recording:
            detail = {
                "to": stack.name,
                "protocol": "udp",
                "size": len(data),
                "local": source,
                "remote": target,
            }
            for arrival in arrivals:
                loop.trace.note(now, self.stack.name, "packet", arrive_s=arrival, **detail)
            if not arrivals:
                loop.trace.note(now, self.stack.name, "lost", **detail)

    def receive(self) -> tuple[bytes, tuple[str, int]] | None:
        """Return the next datagram and who sent it, or None. Raises what an earlier one came back with."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if not self._waiting:
            return None
        data, source = self._waiting.popleft()
        self._waiting_size -= len(data) + _OVERHEAD
        return data, source

    def close(self) -> None:
        """Give the port up. Idempotent."""
        if not self.closed:
            self.closed = True
            self.on_readable = None
            self._waiting.clear()
            self.stack.ports.pop(self.local, None)

    def _arrive(self, stack: Stack, data: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        fabric = self.stack.fabric
        if not stack.up or fabric.link(self.stack, stack).cut:
            return
        port = stack.port_at(*target)
        if port is None:
            back = fabric.link(stack, self.stack)
            if not back.cut:
                fabric.loop.call_in_world(back.control(fabric.loop.time()), self._unreachable, target)
        else:
            port.take(data, source)

    def take(self, data: bytes, source: tuple[str, int]) -> None:
        """Queue a datagram that came, if there is room and it may come from there."""
        size = len(data) + _OVERHEAD
        if (self.remote is not None and self.remote != source) or self._waiting_size + size > RECEIVE_BUFFER:
            return
        self._waiting.append((data, source))
        self._waiting_size += size
        if self.on_readable is not None:
            self.on_readable()

    def _unreachable(self, target: tuple[str, int]) -> None:
        """Nobody has the port that a datagram went to. Linux tells connected sockets only."""
        if not self.closed and self.remote == target:
            self.error = os_error(errno.ECONNREFUSED)
            if self.on_readable is not None:
                self.on_readable()
