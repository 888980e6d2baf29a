"""`SimulationLoop`: the virtual loop with asyncio's network calls, on a simulated network."""

# ruff: noqa: A002 - asyncio names the parameters

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable
from typing import Any

from ..refusal import refuse
from ..tape import Tape
from .datagrams import DatagramTransport
from .dial import dial
from .fabric import Fabric
from .names import lookup, lookup_now
from .server import SimulatedServer
from .socket_calls import SocketCalls
from .sockets import SimulatedSocket
from .stack import Stack, os_error
from .tls import TlsOptions, upgrade, wrap
from .transport import StreamTransport, scoped_context

__all__ = ["SimulationLoop"]

Factory = Callable[[], Any]


class SimulationLoop(SocketCalls):
    """An asyncio event loop whose time and network are simulated. One loop carries all hosts."""

    def __init__(self, tape: Tape, **options: Any) -> None:
        super().__init__(**options)
        self.tape = tape
        self.fabric: Fabric = Fabric(self, tape)

    @property
    def stack(self) -> Stack:
        """The network stack of the host whose code runs now."""
        return self.fabric.stack_of(self.scope)

    def new_socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> SimulatedSocket:
        """Return a socket of the host whose code runs now."""
        return SimulatedSocket(self, self.stack, family, kind, proto)

    # Names.

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        return await lookup(self.fabric, self.stack, host, port, family=family, kind=type, flags=flags)

    def getaddrinfo_now(
        self, host: Any, port: Any, family: int = 0, kind: int = 0, flags: int = 0
    ) -> list[Any]:
        """Resolve without waiting, as `socket.getaddrinfo` does inside the simulation."""
        return lookup_now(self.fabric, self.stack, host, port, family=family, kind=kind, flags=flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        name = sockaddr[0] if flags & socket.NI_NUMERICHOST else self.fabric.name_of(sockaddr[0])
        return name, str(sockaddr[1])

    # Streams.

    async def create_connection(
        self,
        protocol_factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: Any = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[Any, Any]:
        options = TlsOptions.of(
            ssl,
            server_side=False,
            host=host,
            server_hostname=server_hostname,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
        )
        if sock is not None:
            if host is not None or port is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            connected = _own(sock, socket.SOCK_STREAM)
        elif host is None and port is None:
            raise ValueError("host and port was not specified and no sock specified")
        else:
            infos = await self.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=flags)
            connected = await self._connect_first(
                [info[4] for info in infos], local_addr, all_errors=all_errors
            )
        return await self._client(protocol_factory, connected, options)

    async def _connect_first(
        self, addresses: list[tuple[str, int]], local: tuple[str, int] | None, *, all_errors: bool
    ) -> SimulatedSocket:
        stack = self.stack
        errors: list[OSError] = []
        for address in addresses:
            try:
                endpoint = await dial(stack, *address, local=self._local(local))
            except OSError as error:
                errors.append(_connect_failed(error, address))
            else:
                return SimulatedSocket.of(self, endpoint)
        if all_errors:
            raise ExceptionGroup("create_connection failed", errors)
        if len({str(error) for error in errors}) == 1:
            raise errors[0]
        raise OSError(f"Multiple exceptions: {', '.join(str(error) for error in errors)}")

    def _local(self, address: tuple[str, int] | None) -> tuple[str, int] | None:
        if address is None:
            return None
        stack = self.stack
        host = self.fabric.resolve(stack, address[0])[0]
        return (stack.address if host == "0.0.0.0" else host, address[1] or stack.free_port())  # noqa: S104

    async def create_unix_connection(
        self,
        protocol_factory: Factory,
        path: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Any, Any]:
        options = TlsOptions.of(
            ssl,
            server_side=False,
            server_hostname=server_hostname,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
        )
        if sock is None:
            endpoint = await dial(self.stack, "", 0, path=os.fspath(path))
            sock = SimulatedSocket.of(self, endpoint)
        return await self._client(protocol_factory, _own(sock, socket.SOCK_STREAM), options)

    async def connect_accepted_socket(
        self,
        protocol_factory: Factory,
        sock: Any,
        *,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Any, Any]:
        options = TlsOptions.of(
            ssl,
            server_side=True,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
        )
        return await self._client(protocol_factory, _own(sock, socket.SOCK_STREAM), options)

    async def _client(
        self, factory: Factory, sock: SimulatedSocket, options: TlsOptions | None
    ) -> tuple[Any, Any]:
        protocol = factory()
        waiter = self.create_future()
        transport = self._carry(sock, protocol, options, scoped_context(self), waiter=waiter)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    def _carry(
        self,
        sock: SimulatedSocket,
        protocol: Any,
        options: TlsOptions | None,
        context: Any,
        *,
        waiter: asyncio.Future[None] | None = None,
        server: SimulatedServer | None = None,
    ) -> Any:
        endpoint = sock.endpoint
        if endpoint is None:
            raise ValueError(f"the socket {sock!r} is not connected")
        if options is None:
            return StreamTransport(
                self, endpoint, sock, protocol, context=context, waiter=waiter, server=server
            )
        tls = wrap(self, protocol, options, waiter)
        StreamTransport(self, endpoint, sock, tls, context=context, server=server).conceal()
        return tls._app_transport  # noqa: SLF001 - where asyncio's loops find it too

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        options = TlsOptions(
            sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        return await upgrade(self, transport, protocol, options)

    async def sendfile(
        self, transport: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int:
        """Send `file` by reading and writing: there is no descriptor that a kernel could copy."""
        if not fallback:
            raise asyncio.SendfileNotAvailableError("there is no sendfile in a simulation")
        file.seek(offset)
        sent = 0
        while count is None or sent < count:
            data = file.read(16_384 if count is None else min(16_384, count - sent))
            if not data:
                break
            transport.write(data)
            sent += len(data)
            while transport.get_write_buffer_size() > 65_536 and not transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.0001)  # It belongs to whoever has the protocol to be told of room.
        return sent

    # Servers.

    async def create_server(
        self,
        protocol_factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        family: int = 0,
        flags: int = socket.AI_PASSIVE,
        sock: Any = None,
        backlog: int = 100,
        ssl: Any = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Any:
        if sock is not None:
            if host is not None or port is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            sockets = [_own(sock, socket.SOCK_STREAM)]
        elif host is None and port is None:
            raise ValueError("Neither host/port nor sock were specified")
        else:
            hosts = [host or None] if host is None or isinstance(host, (str, bytes)) else list(host)
            found = [
                await self.getaddrinfo(each, port, family=family, type=socket.SOCK_STREAM, flags=flags)
                for each in hosts
            ]
            addresses = dict.fromkeys(info[4] for info in itertools.chain.from_iterable(found))
            sockets = [self._listening(address) for address in addresses]
        options = TlsOptions.of(
            ssl,
            server_side=True,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
        )
        return await self._serve(protocol_factory, sockets, options, backlog, start_serving=start_serving)

    def _listening(self, address: tuple[str, int]) -> SimulatedSocket:
        sock = self.new_socket()
        sock.setblocking(False)
        try:
            sock.bind(address)
        except OSError as error:
            raise os_error(
                error.errno or 0,
                f"error while attempting to bind on address {address!r}: {(error.strerror or '').lower()}",
            ) from None
        return sock

    async def create_unix_server(
        self,
        protocol_factory: Factory,
        path: Any = None,
        *,
        sock: Any = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = True,
    ) -> Any:
        options = TlsOptions.of(
            ssl,
            server_side=True,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
        )
        if sock is None:
            sock = self.new_socket(socket.AF_UNIX)
            sock.bind(os.fspath(path))
        return await self._serve(
            protocol_factory, [_own(sock, socket.SOCK_STREAM)], options, backlog, start_serving=start_serving
        )

    async def _serve(
        self,
        factory: Factory,
        sockets: list[SimulatedSocket],
        options: TlsOptions | None,
        backlog: int,
        *,
        start_serving: bool,
    ) -> SimulatedServer:
        def accept(sock: SimulatedSocket, server: SimulatedServer, context: Any) -> None:
            self._carry(sock, factory(), options, context.copy(), server=server)

        for sock in sockets:
            sock.listen(backlog)
        server = SimulatedServer(self, sockets, accept, scoped_context(self))
        if start_serving:
            await server.start_serving()
        return server

    # Datagrams.

    async def create_datagram_endpoint(
        self,
        protocol_factory: Factory,
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: Any = None,
    ) -> tuple[Any, Any]:
        if allow_broadcast:
            raise refuse("broadcast", "send to each host by name")
        if sock is None:
            sock = self.new_socket(family or socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            if local_addr is not None:
                sock.bind(local_addr)
            if remote_addr is not None:
                infos = await self.getaddrinfo(*remote_addr, type=socket.SOCK_DGRAM)
                sock.connect(infos[0][4])
        sock = _own(sock, socket.SOCK_DGRAM)
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = DatagramTransport(self, sock, protocol, waiter, scoped_context(self))
        await waiter
        return transport, protocol


def _own(sock: Any, kind: int) -> SimulatedSocket:
    """Return `sock` if it is simulated and of this kind; a real one is refused."""
    if not isinstance(sock, SimulatedSocket):
        raise refuse(f"the real socket {sock!r}", "make the socket inside of a host")
    if sock.type != kind:
        raise ValueError(f"A socket of another type was expected, got {sock!r}")
    return sock


def _connect_failed(error: OSError, address: tuple[str, int]) -> OSError:
    """Return the error as asyncio words it."""
    return os_error(error.errno or 0, f"Connect call failed {address}")
