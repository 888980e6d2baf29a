"""Coterie's own nodes as processes of simulated hosts.

    engine = StandIn(world)
    await engine.start()
    for name in ("a", "b", "c"):
        await world.start(name, run_node, engine, "shop:app")
    await world.start("client", run_client, engine, "shop:app", buy)

The app is given as an `App`, which all hosts then share, or as `module:attribute`, of which each
host executes its own copy.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..engines.system import SystemClock, SystemEntropy
from ..engines.tcp import TcpWire, WireConfig
from ..errors import CoterieError, InvalidArgument, Unsupported
from ..node import Node, NodeConfig, Ports, connect
from .host import Process
from .standin import StandIn

if TYPE_CHECKING:
    from ..app import App

__all__ = ["WIRE_PORT", "Wrap", "connected", "load_app", "open_ports", "run_client", "run_node"]

WIRE_PORT = 7400
Wrap = Callable[[Ports], Ports]
"""Puts something between an app and its ports, to watch what passes."""

_CLUSTER_KEY = "the hosts of one universe"
_RESTART_S = 0.5
"""How long a service manager waits before it starts a node again that could not start."""


def load_app(engine: StandIn, app: App | str) -> App:
    """Return the app as the host whose code calls this has it."""
    if not isinstance(app, str):
        return app
    module, colon, name = app.partition(":")
    process = engine.world.loop.scope.owner
    if not isinstance(process, Process):
        raise InvalidArgument("an app is loaded by code that runs on a host")
    engine.world.modules.private.add(module)
    found: App = getattr(engine.world.modules.load(process.host, module), name if colon else "app")
    return found


@asynccontextmanager
async def open_ports(engine: StandIn) -> AsyncGenerator[Ports, None]:
    """Open the ports of this host: its clocks, its entropy, TCP, and a client of the engine."""
    clock, entropy = SystemClock(), SystemEntropy()
    wire = TcpWire(entropy=entropy, config=WireConfig(cluster_key=_CLUSTER_KEY))
    client = engine.open()
    try:
        yield Ports(
            clock=clock, entropy=entropy, store=client.store, log=client.log, wire=wire, engines=(client,)
        )
    finally:
        await wire.close()
        await client.close()


async def run_node(
    engine: StandIn, app: App | str, *, lease_s: float = 3.0, http: str = "off", wrap: Wrap | None = None
) -> None:
    """Run one node until it is told to stop, as `coterie run` does; start it again when it cannot start."""
    loaded = load_app(engine, app)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    name = socket.gethostname()
    config = NodeConfig(
        name=name, listen=f"{name}:{WIRE_PORT}", http=http, lease_s=lease_s, cluster_key=_CLUSTER_KEY
    )
    while not stopping.is_set():
        async with open_ports(engine) as ports:
            node = Node(loaded, config, ports=wrap(ports) if wrap else ports)
            try:
                await node.start()
            except Unsupported:
                raise  # No other attempt can succeed.
            except CoterieError:
                await asyncio.sleep(_RESTART_S)
                continue
            try:
                await stopping.wait()
                await node.drain()
            finally:
                await node.close()


@asynccontextmanager
async def connected(
    engine: StandIn, app: App | str, *, timeout_s: float | None = None, wrap: Wrap | None = None
) -> AsyncGenerator[App, None]:
    """Let the app's handles work in this block, as a caller that is no member."""
    loaded = load_app(engine, app)
    async with open_ports(engine) as ports:
        config = NodeConfig(name=socket.gethostname(), http="off", cluster_key=_CLUSTER_KEY)
        while True:
            used = wrap(ports) if wrap else ports
            caller = connect(loaded, config=config, ports=used, timeout_s=timeout_s)
            try:
                await caller.__aenter__()
            except Unsupported:
                raise
            except CoterieError:  # The engine is not there yet, or just not there.
                await asyncio.sleep(_RESTART_S)
                continue
            try:
                yield loaded
            finally:
                await caller.__aexit__(None, None, None)
            return


async def run_client(engine: StandIn, app: App | str, body: Callable[[Any], Awaitable[object]]) -> None:
    """Run `body(app)` with the app's handles at work."""
    async with connected(engine, app) as loaded:
        await body(loaded)
