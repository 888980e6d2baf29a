"""The program's side of sockets: what `socket.socket` is inside a simulation.

Sockets never block: an operation that would have to wait raises `BlockingIOError` when the socket is
non-blocking, as in reality, and is refused when it is blocking, since it would stop every host.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import socket
from collections.abc import Callable
from typing import Any

from ..loop import VirtualLoop
from ..refusal import refuse
from .stack import Stack, os_error
from .tcp import Endpoint, Listener
from .udp import Port

__all__ = ["SimulatedSocket"]

_FIRST_FD = 1 << 20
"""Above any descriptor that the operating system gives out, so that the two are never confused."""


class SimulatedSocket:
    """A TCP, UDP or Unix stream socket of the host that made it."""

    def __init__(
        self,
        loop: VirtualLoop,
        stack: Stack,
        family: int = socket.AF_INET,
        kind: int = socket.SOCK_STREAM,
        proto: int = 0,
    ) -> None:
        base = int(kind) & ~(getattr(socket, "SOCK_NONBLOCK", 0) | getattr(socket, "SOCK_CLOEXEC", 0))
        known = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        if family not in {socket.AF_INET, socket.AF_UNIX} or base not in known:
            if family == socket.AF_INET6:
                raise os_error(errno.EAFNOSUPPORT)
            raise refuse(f"a socket of family {family!r} and type {kind!r}", "use TCP, UDP or Unix streams")
        if family == socket.AF_UNIX and base == socket.SOCK_DGRAM:
            raise refuse("a Unix datagram socket", "use a Unix stream")
        self.family: socket.AddressFamily = socket.AddressFamily(family)
        self.type: socket.SocketKind = socket.SocketKind(base)
        self.proto = proto
        self.loop = loop
        self.stack = stack
        self.endpoint: Endpoint | None = None
        self.listener: Listener | None = None
        self.port: Port | None = None
        self._bound: tuple[str, int] | str | None = None
        self._fd = _FIRST_FD + loop.next_order()
        self._timeout: float | None = socket.getdefaulttimeout()
        self._options: dict[tuple[int, int], Any] = {}
        self._reader: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        self._writer: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        self._context = contextvars.copy_context()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @classmethod
    def of(cls, loop: VirtualLoop, endpoint: Endpoint) -> SimulatedSocket:
        """Return a socket for an endpoint that is connected already."""
        family = socket.AF_UNIX if isinstance(endpoint.local, str) else socket.AF_INET
        sock = cls(loop, endpoint.stack, family)
        sock.setblocking(False)
        sock.endpoint = endpoint
        return sock

    def __repr__(self) -> str:
        return (
            f"<SimulatedSocket fd={self._fd} {self.stack.name} local={self._local()} peer={self._remote()}>"
        )

    def __enter__(self) -> SimulatedSocket:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # Addresses and options.

    def _local(self) -> tuple[str, int] | str:
        for each in (self.endpoint, self.listener, self.port):
            if each is not None:
                return each.local
        return self._bound or ("" if self.family == socket.AF_UNIX else ("0.0.0.0", 0))  # noqa: S104

    def _remote(self) -> tuple[str, int] | str | None:
        if self.endpoint is not None:
            return self.endpoint.remote
        return self.port.remote if self.port is not None else None

    def fileno(self) -> int:
        return self._fd

    def getsockname(self) -> tuple[str, int] | str:
        return self._local()

    def getpeername(self) -> tuple[str, int] | str:
        remote = self._remote()
        if remote is None:
            raise os_error(errno.ENOTCONN)
        return remote

    def setsockopt(self, level: int, option: int, value: Any, *_length: int) -> None:
        self._options[level, option] = value

    def getsockopt(self, level: int, option: int, *_length: int) -> Any:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_TYPE):
            return int(self.type)
        return self._options.get((level, option), 0)

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        return self._timeout

    def set_inheritable(self, inheritable: bool) -> None:
        """Nothing is inherited: there are no child processes."""

    def get_inheritable(self) -> bool:
        return False

    # Life.

    def bind(self, address: Any) -> None:
        if self.family == socket.AF_UNIX:
            self._bound = str(address)
            return
        host, port = address[0], address[1]
        host = self.stack.fabric.resolve(self.stack, host)[0] if host else "0.0.0.0"  # noqa: S104
        if not self.stack.owns(host):
            raise os_error(errno.EADDRNOTAVAIL)
        if self.type == socket.SOCK_DGRAM:
            self.port = Port(self.stack, host, port)
        elif port and self.stack.listener_at(host, port) is not None:
            raise os_error(errno.EADDRINUSE)
        else:
            self._bound = (host, port or self.stack.free_port())

    def listen(self, backlog: int = 128) -> None:
        if self.listener is not None:
            return
        if isinstance(self._bound, str):
            self.listener = Listener(self.stack, "", 0, backlog, self._bound)
        else:
            host, port = self._bound or ("0.0.0.0", self.stack.free_port())  # noqa: S104
            self.listener = Listener(self.stack, host, port, backlog)
        self.listener.on_readable = self.wake

    def connected(self, endpoint: Endpoint) -> None:
        """Take over a connection that was dialled for this socket."""
        self.endpoint = endpoint
        endpoint.on_readable = endpoint.on_writable = self.wake

    def datagrams(self) -> Port:
        """Return the port of a datagram socket, bound to any free one if it was not."""
        if self.port is None:
            self.port = Port(self.stack, "0.0.0.0", 0)  # noqa: S104
        self.port.on_readable = self.wake
        return self.port

    @property
    def local_address(self) -> tuple[str, int] | None:
        """The address that the program has bound it to, before it is connected."""
        return self._bound if isinstance(self._bound, tuple) else None

    def close(self) -> None:
        for each in (self.endpoint, self.listener, self.port):
            if each is not None:
                each.close()
        self.detach()

    def detach(self) -> int:
        """Forget the descriptor; what it stood for stays as it is."""
        fd, self._fd = self._fd, -1
        self._reader = self._writer = None
        return fd

    def shutdown(self, how: int) -> None:
        if self.endpoint is None:
            raise os_error(errno.ENOTCONN)
        if how in {socket.SHUT_WR, socket.SHUT_RDWR}:
            self.endpoint.shutdown()

    # Bytes.

    def _would_block(self) -> Exception:
        if self._timeout == 0.0:
            return os_error(errno.EAGAIN)
        return refuse("waiting on a blocking socket", "call setblocking(False) and use the event loop")

    def _connected_endpoint(self) -> Endpoint:
        if self._fd == -1:
            raise os_error(errno.EBADF)
        if self.endpoint is None:
            raise os_error(errno.ENOTCONN)
        return self.endpoint

    def connect(self, address: Any) -> None:
        if self.type == socket.SOCK_DGRAM:
            host = self.stack.fabric.resolve(self.stack, address[0])[0]
            self.datagrams().remote = (host, address[1])
            return
        raise refuse("socket.connect", "await loop.sock_connect(sock, address), or asyncio.open_connection")

    def connect_ex(self, address: Any) -> int:
        self.connect(address)
        return 0

    def accept(self) -> tuple[SimulatedSocket, Any]:
        if self.listener is None:
            raise os_error(errno.EINVAL)
        if not self.listener.queue:
            raise self._would_block()
        sock = SimulatedSocket.of(self.loop, self.listener.queue.popleft())
        if sock.endpoint is not None:
            sock.connected(sock.endpoint)
        return sock, sock.getpeername()

    def recv(self, size: int, *_flags: int) -> bytes:
        if self.type == socket.SOCK_DGRAM:
            return self.recvfrom(size)[0]
        data = self._connected_endpoint().receive(size)
        if data is None:
            raise self._would_block()
        return data

    def recv_into(self, buffer: Any, size: int = 0, *_flags: int) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(size or len(view))
        view[: len(data)] = data
        return len(data)

    def recvfrom(self, size: int, *_flags: int) -> tuple[bytes, Any]:
        found = self.datagrams().receive()
        if found is None:
            raise self._would_block()
        data, source = found
        return data[:size], source

    def send(self, data: Any, *_flags: int) -> int:
        if self.type == socket.SOCK_DGRAM:
            self.datagrams().send(bytes(data))
            return len(data)
        data = bytes(data)
        sent = self._connected_endpoint().send(data)
        if data and not sent:
            raise self._would_block()
        return sent

    def sendall(self, data: Any, *_flags: int) -> None:
        if self.send(data) < len(data):
            raise refuse("socket.sendall of more than fits", "await loop.sock_sendall(sock, data)")

    def sendto(self, data: Any, *rest: Any) -> int:
        host = self.stack.fabric.resolve(self.stack, rest[-1][0])[0]
        self.datagrams().send(bytes(data), (host, rest[-1][1]))
        return len(data)

    # Readiness, for `add_reader` and the loop's `sock_*` methods.

    @property
    def readable(self) -> bool:
        if self.listener is not None:
            return bool(self.listener.queue)
        source = self.endpoint or self.port
        return source is not None and source.readable

    @property
    def writable(self) -> bool:
        return self.endpoint.writable if self.endpoint is not None else self.listener is None

    async def wait(self, what: str) -> None:
        """Return when the socket is `readable` or `writable`."""
        if self._fd == -1:
            raise os_error(errno.EBADF)
        while not getattr(self, what):
            future: asyncio.Future[None] = self.loop.create_future()
            entry = (what, future)
            self._waiting.append(entry)
            try:
                await future
            finally:
                self._waiting.remove(entry)

    def watch(self, what: str, callback: Callable[..., object] | None, args: tuple[Any, ...] = ()) -> bool:
        """Call `callback` once a pass while the socket is `readable` or `writable`; None ends it."""
        before = self._reader if what == "readable" else self._writer
        watcher = None if callback is None else (callback, args)
        if what == "readable":
            self._reader = watcher
        else:
            self._writer = watcher
        if watcher is not None:
            if self.type == socket.SOCK_DGRAM:
                self.datagrams()
            self._context = contextvars.copy_context()
            self.wake()
        return before is not None

    def wake(self) -> None:
        """Tell those that wait what has changed."""
        for what, future in self._waiting:
            if not future.done() and getattr(self, what):
                future.set_result(None)
        for what, watcher in (("readable", self._reader), ("writable", self._writer)):
            if watcher is not None and getattr(self, what):
                self.loop.call_soon(self._fire, what, watcher, context=self._context)

    def _fire(self, what: str, watcher: tuple[Callable[..., object], tuple[Any, ...]]) -> None:
        # One that was exchanged or removed since is not called; one that is still there is called
        # again at the next pass, for as long as the socket stays ready.
        current = self._reader if what == "readable" else self._writer
        if current is watcher and getattr(self, what):
            watcher[0](*watcher[1])
            again = self._reader if what == "readable" else self._writer
            if again is watcher and getattr(self, what):
                self.loop.call_soon(self._fire, what, watcher, context=self._context)
