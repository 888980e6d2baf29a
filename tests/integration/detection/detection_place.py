"""Nodes of an app whose leases last for minutes: what is noticed within a test was noticed by gossip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from coterie import App
from coterie.context import current
from coterie.engines.memory import MemoryEngine, MemoryNetwork
from coterie.engines.memory import open_engine as open_memory
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.engines.tcp import TcpWire
from coterie.node import Connection, Node, NodeConfig, Ports, connect

__all__ = ["Place", "eventually", "open_place"]

PERIOD_S = 0.05


class Place:
    """Nodes in this process on one memory engine, with wires of memory or TCP."""

    def __init__(self, engine: MemoryEngine, stack: AsyncExitStack, *, tcp: bool) -> None:
        self.app = App("place")
        self.network = MemoryNetwork()
        self.nodes: dict[str, Node] = {}
        self._engine = engine
        self._stack = stack
        self._tcp = tcp

        class Where:
            async def here(self) -> str:
                return current().node

        self.app.service(Where)
        self.where: Any = self.app.client(Where)

    def ports(self, name: str) -> Ports:
        entropy = SystemEntropy()
        wire: Any = TcpWire(entropy=entropy) if self._tcp else self.network.wire(name)
        self._stack.push_async_callback(wire.close)
        return Ports(
            clock=SystemClock(),
            entropy=entropy,
            store=self._engine.store,
            log=self._engine.log,
            wire=wire,
            engines=(self._engine,),
        )

    async def add(self, name: str, *, gossip_s: float = PERIOD_S) -> Node:
        listen = "127.0.0.1:0" if self._tcp else "memory:0"
        config = NodeConfig(name=name, listen=listen, http="off", lease_s=600, gossip_s=gossip_s)
        node = self.nodes[name] = Node(self.app, config, ports=self.ports(name))
        # In a task of its own: a node sets the context of who starts it.
        await asyncio.create_task(node.start())
        return node

    @asynccontextmanager
    async def calling(self, *, gossip_s: float = PERIOD_S) -> AsyncIterator[Connection]:
        config = NodeConfig(http="off", gossip_s=gossip_s)
        async with connect(self.app, config=config, ports=self.ports("caller")) as connection:
            yield connection

    async def kill(self, name: str) -> Node:
        """End a node as a crash would. Its lease lasts."""
        node = self.nodes.pop(name)
        self.network.kill(name)
        await node.crash()
        return node

    def suspects(self, name: str) -> dict[str, str]:
        """Return what a node says of others, by their ids."""
        gossip = self.nodes[name].facts().gossip
        assert gossip is not None
        return gossip.suspects


@asynccontextmanager
async def open_place(*names: str, tcp: bool = False) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        engine = await open_memory("memory:", clock=SystemClock(), entropy=SystemEntropy())
        stack.push_async_callback(engine.close)
        place = Place(engine, stack, tcp=tcp)
        for name in names:
            await place.add(name)
        try:
            yield place
        finally:
            for node in place.nodes.values():
                await node.close()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
