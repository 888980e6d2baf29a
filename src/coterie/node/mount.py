"""`app.asgi()`: a node inside somebody else's ASGI server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .config import NodeConfig, resolve
from .node import Node

if TYPE_CHECKING:
    from ..app import App
    from ..gateway import Gateway

__all__ = ["MountedNode", "asgi"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def asgi(app: App, *, config: NodeConfig | None = None) -> MountedNode:
    """Return an ASGI app that runs a node of `app`, configured as `coterie run` would be."""
    if config is None:
        config, _ = resolve({"http": "off"}, os.environ)
    return MountedNode(app, config)


class MountedNode:
    """An ASGI app with a node behind it.

    A server that runs it by itself starts and drains the node by the lifespan protocol. Frameworks do
    not pass that on to what is mounted in them: give `lifespan` to theirs, as in
    `FastAPI(lifespan=node.lifespan)`, or let the first request start the node, and its lease end it.
    """

    def __init__(self, app: App, config: NodeConfig) -> None:
        self._app = app
        self._config = config
        self._starting = asyncio.Lock()
        self._node: Node | None = None
        self._gateway: Gateway | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        gateway = self._gateway or await self._start()
        await gateway(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _outer: object = None) -> AsyncIterator[None]:
        """Start the node, and drain it at the end: for the lifespan of the app that this is mounted in."""
        await self._start()
        try:
            yield
        finally:
            await self._stop()

    async def _start(self) -> Gateway:
        from ..gateway import GatewayConfig, create_asgi

        async with self._starting:
            if self._gateway is None:
                node = Node(self._app, self._config)
                await node.start()
                self._node = node
                config = GatewayConfig(token=self._config.http_token)
                self._gateway = create_asgi(node, config, clock=node.clock)
            return self._gateway

    async def _stop(self) -> None:
        node, self._node, self._gateway = self._node, None, None
        if node is not None:
            await node.drain()
            await node.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._start()
                except Exception as error:  # noqa: BLE001 - the server reports it and exits
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
