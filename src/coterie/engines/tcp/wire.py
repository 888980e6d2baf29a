"""`TcpWire`: the Wire port over TCP, Unix sockets and TLS."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

from ...errors import InvalidConfiguration, Outcome, Unavailable
from ...ports.entropy import Entropy
from ...ports.guarantees import Scope
from ...ports.wire import Handlers, WireGuarantees
from ..common.steps import Steps
from .channel import TcpChannel
from .config import Address, WireConfig
from .listener import AcceptedConnection, TcpListener

__all__ = ["TcpWire"]


class TcpWire:
    """Carries calls between machines. Made and used on one event loop."""

    def __init__(self, *, entropy: Entropy, config: WireConfig | None = None) -> None:
        self._config = config or WireConfig()
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._steps = Steps(self._loop)
        self._closed = False
        self._listeners: list[TcpListener] = []
        self._channels: dict[TcpChannel, None] = {}  # in the order in which they were opened
        self._guarantees = WireGuarantees(
            engine="tcp",
            scope=Scope.NETWORK,
            max_body_bytes=self._config.max_body_bytes,
            encrypted=self._config.server_ssl is not None,
            authenticated=bool(self._config.cluster_key) or self._config.mutual_tls,
        )

    @property
    def guarantees(self) -> WireGuarantees:
        return self._guarantees

    async def listen(self, address: str, handlers: Handlers) -> TcpListener:
        where = Address.parse(address)
        if self._closed:
            raise Unavailable("this wire is closed", outcome=Outcome.NOT_APPLIED)
        if not where.loopback and not self._guarantees.authenticated:
            raise InvalidConfiguration(
                f"listening at {address}, beyond this machine, needs a cluster key or mutual TLS",
                hint="set COTERIE_CLUSTER_KEY to the same secret on all nodes, or listen at 127.0.0.1:0",
            )
        listener = TcpListener(self._config, handlers, self._steps)

        def protocol() -> AcceptedConnection:
            return AcceptedConnection(listener, self._entropy.secret(16))

        tls: dict[str, Any] = {}
        if self._config.server_ssl is not None:
            tls = {"ssl": self._config.server_ssl, "ssl_handshake_timeout": self._config.hello_timeout_s}
        try:
            if where.path:
                await self._remove_stale(where)
                server = await self._loop.create_unix_server(protocol, where.path, **tls)
                Path(where.path).chmod(0o600)
            else:
                server = await self._loop.create_server(protocol, where.host, where.port, backlog=1024, **tls)
                where = Address(where.host, server.sockets[0].getsockname()[1])
        except OSError as error:
            raise InvalidConfiguration(
                f"cannot listen at {address}: {_reason(error)}", hint=_hint(error, where)
            ) from error
        listener.serve(server, where)
        self._listeners.append(listener)
        return listener

    async def _remove_stale(self, where: Address) -> None:
        """Remove the socket that a dead process left behind; one that answers is in use."""
        path = Path(where.path)
        if not path.is_socket():
            return
        try:
            transport, _ = await self._loop.create_unix_connection(asyncio.Protocol, where.path)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            transport.abort()
            raise OSError(errno.EADDRINUSE, "address in use")

    def connect(self, address: str) -> TcpChannel:
        channel = TcpChannel(address, self._config, self._entropy, closed=self._closed)
        self._channels = {known: None for known in self._channels if not known.closed}
        self._channels[channel] = None
        return channel

    async def close(self) -> None:
        self._closed = True
        for channel in self._channels:
            await channel.close()
        for listener in self._listeners:
            await listener.close()
        self._channels.clear()
        self._listeners.clear()
        await self._steps.close()


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is in use"
    return error.strerror or str(error)


def _hint(error: OSError, where: Address) -> str | None:
    if error.errno == errno.EADDRINUSE:
        return "stop what runs there, or take any free port" + ("" if where.path else f": {where.host}:0")
    if error.errno == errno.EACCES and where.port and where.port < 1024:
        return "ports below 1024 are for root"
    return None
