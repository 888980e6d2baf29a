"""`app.asgi()`: a node inside somebody else's ASGI server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..context import CURRENT, Call
from .config import NodeConfig, resolve
from .node import Node

if TYPE_CHECKING:
    from ..app import App
    from ..gateway import Gateway

__all__ = ["MountedNode", "asgi"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def asgi(app: App, *, config: NodeConfig | None = None) -> MountedNode:
    """Return an ASGI app that runs a node of `app`, configured as `coterie run` would be."""
    if config is None:
        config, _ = resolve({"http": "off"}, os.environ)
    return MountedNode(app, config)


class MountedNode:
    """An ASGI app with a node behind it.

    A server that runs it by itself starts and drains the node by the lifespan protocol. Frameworks do
    not pass that on to what is mounted in them: give `lifespan` to theirs, or let the first request
    start the node, and its lease end it. What is asked for after the lifespan is refused. With
    `middleware`, handles work in the framework's own endpoints as well:

        node = app.asgi()
        api = FastAPI(lifespan=node.lifespan)
        api.add_middleware(node.middleware)
        api.mount("/services", node)
    """

    def __init__(self, app: App, config: NodeConfig) -> None:
        self._app = app
        self._config = config
        self._starting = asyncio.Lock()
        self._node: Node
        self._call: Call
        self._gateway: Gateway | None = None
        """Of the node that runs, or of the last one that did. None before the first."""
        self._ended = False
        """Whether a lifespan has ended that node. A request does not start another then: who would end it?"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        gateway = self._gateway or await self._start()
        await gateway(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _outer: object = None) -> AsyncIterator[None]:
        """Start the node, and drain it at the end: for the lifespan of the app that this is mounted in."""
        await self._begin()
        try:
            yield
        finally:
            await self._stop()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Return `app` with every request run under the node, so that the handles work in it."""

        async def bound(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
                return
            if self._gateway is None:
                await self._start()
            token = CURRENT.set(self._call)
            try:
                await app(scope, receive, send)
            finally:
                CURRENT.reset(token)

        return bound

    async def _start(self) -> Gateway:
        from ..gateway import GatewayConfig, create_asgi

        async with self._starting:
            if self._gateway is None:
                node = Node(self._app, self._config)
                await node.start()
                self._node, self._call = node, node.call
                config = GatewayConfig(token=self._config.http_token)
                self._gateway = create_asgi(node, config, clock=node.clock)
            return self._gateway

    async def _begin(self) -> None:
        if self._ended:
            self._gateway, self._ended = None, False
        await self._start()

    async def _stop(self) -> None:
        async with self._starting:
            if self._gateway is not None and not self._ended:
                self._ended = True
                await self._node.drain()
                await self._node.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._begin()
                except Exception as error:  # noqa: BLE001 - the server reports it and exits
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
