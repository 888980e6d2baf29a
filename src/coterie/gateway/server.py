"""Runs the gateway on uvicorn, inside the loop that a node already has.

uvicorn's own `Server` would take over signals and logging, and exit the process when a port is in
use. Here it serves connections; the rest is ours.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import ipaddress
import math
import selectors
import socket
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import InvalidConfiguration, Outcome
from ..ports import Clock
from ..telemetry import Family, Sample, gauge
from .app import Gateway
from .backend import Backend
from .config import LOOPBACK_HOSTS, GatewayConfig
from .problems import Problem
from .request import Receive, Scope, Send

if TYPE_CHECKING:
    from .protocol import Bounded

__all__ = ["HttpServer"]

_TICK_S = 1.0
_BACKLOG = 2048
_BACKLOG_ROUNDS = 100
_QUIET_ROUNDS = 5


class HttpServer:
    """Serves a backend over HTTP/1.1 on one address.

    Start it once; then `drain` and `close` it, or only `close` it, which is the hurried way.
    """

    def __init__(self, backend: Backend, config: GatewayConfig, *, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._bound: tuple[str, int] | None = None
        if not config.token and config.trusted_hosts is None:
            config = dataclasses.replace(config, trusted_hosts=LOOPBACK_HOSTS)
        self.gateway: Gateway = Gateway(backend, config, clock)
        self.gateway.sources.append(self._collect)
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed: asyncio.Event | None = None
        self._closed = False

    @property
    def address(self) -> str:
        """Where the server listens, as `host:port`, with the port that was really bound."""
        if self._bound is None:
            return self._config.address
        host, port = self._bound
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self) -> None:
        """Bind the address and serve.

        Raises `InvalidConfiguration` when the address cannot be bound, or may not be: anything beyond
        loopback needs a token.
        """
        # uvicorn takes tens of milliseconds to import, which a node without HTTP need not pay.
        from uvicorn.config import Config
        from uvicorn.server import ServerState

        from .protocol import Bounds, protocol_class

        listening = await self._bind()
        loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._bounds = Bounds(
            max_head_bytes=self._config.max_head_bytes,
            head_timeout_s=self._config.head_timeout_s,
            stall_timeout_s=self._config.stall_timeout_s,
            max_connections=self._config.max_connections,
            refuse=_too_many_connections,
            on_lost=self._changed.set,
        )
        protocol: Any = protocol_class(self._bounds)
        # Nothing of uvicorn's logging, signals, reloading, WebSockets or lifespan is used.
        config = Config(
            self.gateway,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=math.ceil(self._config.keep_alive_s),
            h11_max_incomplete_event_size=self._config.max_head_bytes,
        )
        config.load()
        self._state = ServerState()
        self._tick()
        self._server = await loop.create_server(
            lambda: protocol(config=config, server_state=self._state, app_state={}, _loop=loop),
            sock=listening,
            backlog=_BACKLOG,
        )

    async def drain(self, timeout_s: float) -> int:
        """Take no new connection, and finish the requests that have come, each as its connection's last.

        Idle connections stay open for a moment, for requests that are on their way. Returns how many
        requests were still being answered when the time was over.
        """
        if self._server is None or self._changed is None or self._closed:
            return 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self._bounds.draining = True
        await self._accept_backlog()
        self._server.close()
        for connection in self._connections():
            connection.start_drain()
        await self._wait_no_connections(min(deadline, loop.time() + self._config.linger_s))
        for connection in self._connections():
            connection.close_idle()
        await self._wait_no_connections(deadline)
        return self.gateway.running

    async def close(self) -> None:
        """Stop at once: requests under way are cancelled and answered with 503. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._server is None:
            return
        self._bounds.draining = True
        self._server.close()
        for connection in self._connections():
            connection.start_drain()
        self.gateway.cancel_all()
        tasks = tuple(self._state.tasks)
        if tasks:
            # A moment for the 503s; a service that holds on to its cancellation does not hold us.
            await asyncio.wait(tasks, timeout=_TICK_S)
        for connection in self._connections():
            connection.close_idle()
        await self._wait_no_connections(asyncio.get_running_loop().time() + self._config.linger_s)
        for connection in self._connections():
            connection.transport.abort()
        await self._wait_no_connections(math.inf)

    def _connections(self) -> list[Bounded]:
        connections: Any = self._state.connections
        return list(connections)

    async def _wait_no_connections(self, deadline: float) -> None:
        changed = self._changed
        loop = asyncio.get_running_loop()
        while changed is not None and self._state.connections:
            changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                return
            if loop.time() >= deadline:
                return

    async def _accept_backlog(self) -> None:
        # The kernel has accepted these connections, and their clients may have sent requests.
        # Closing the socket would reset them.
        if self._server is None:
            return
        with selectors.DefaultSelector() as selector:
            for listening in self._server.sockets:
                selector.register(listening.fileno(), selectors.EVENT_READ)
            quiet = 0
            for _ in range(_BACKLOG_ROUNDS):
                # The loop takes a few rounds from accepting a connection to having a protocol for it.
                quiet = 0 if selector.select(0) else quiet + 1
                if quiet == _QUIET_ROUNDS:
                    return
                await asyncio.sleep(0)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        # uvicorn reads these for every response; its own server refreshes them the same way.
        self._state.default_headers = [(b"date", formatdate(self._clock.time(), usegmt=True).encode())]
        now = loop.time()
        for connection in self._connections():
            connection.sweep(now)
        self._timer = loop.call_later(_TICK_S, self._tick)

    def _collect(self) -> list[Family]:
        if self._server is None:
            return []
        bounds = self._bounds
        ends = (("malformed", bounds.malformed), ("refused", bounds.refused), ("overdue", bounds.overdue))
        samples = tuple(Sample((reason,), count) for reason, count in ends)
        return [
            gauge("coterie_http_connections", "Open HTTP connections.", len(self._state.connections)),
            Family(
                name="coterie_http_bad_connections_total",
                kind="counter",
                help="HTTP connections ended for what came on them, or did not come.",
                labels=("reason",),
                samples=samples,
            ),
        ]

    async def _bind(self) -> socket.socket:
        host, port = self._config.host_and_port()
        address = self._config.address
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise InvalidConfiguration(
                f"the HTTP address {address}: there is no host {host!r}: {error}"
            ) from error
        family, kind, protocol, _, target = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        if not self._config.token and not ipaddress.ip_address(target[0]).is_loopback:
            raise InvalidConfiguration(
                f"listening for HTTP on {address}, beyond this machine, needs a token",
                hint="set COTERIE_HTTP_TOKEN to a secret, or listen on 127.0.0.1",
            )
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setblocking(False)
            listening.bind(target)
            # Without this, a port that another process also bound is found out only while serving.
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise _bind_error(address, error) from error
        name = listening.getsockname()
        self._bound = (name[0], name[1])
        return listening


def _bind_error(address: str, error: OSError) -> InvalidConfiguration:
    any_port = "try --http 127.0.0.1:0 for any free port, or --http off"
    if error.errno == errno.EADDRINUSE:
        return InvalidConfiguration(f"the HTTP address {address} is in use", hint=any_port)
    if error.errno == errno.EACCES:
        return InvalidConfiguration(f"this user may not listen on the HTTP address {address}", hint=any_port)
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidConfiguration(
            f"the HTTP address {address} is not one of this machine's", hint="try 127.0.0.1"
        )
    return InvalidConfiguration(f"cannot listen on the HTTP address {address}: {error.strerror or error}")


async def _too_many_connections(_scope: Scope, _receive: Receive, send: Send) -> None:
    problem = Problem(
        type="urn:coterie:error:overloaded",
        title="Overloaded",
        status=503,
        detail="there are too many connections",
        code="overloaded",
        outcome=Outcome.NOT_APPLIED.value,
        hint="try again later, or keep fewer connections open",
    )
    body = msgspec.json.encode(problem)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
