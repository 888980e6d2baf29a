"""Several nodes of an app in one process, on the memory engine."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..context import CURRENT, Call
from ..engines.memory import MemoryEngine, MemoryNetwork
from ..engines.memory import open_engine as open_memory
from ..engines.system import SystemClock, SystemEntropy
from ..node import Node, NodeConfig, Ports

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Cluster"]


class Cluster:
    """Runs `nodes` nodes of `app` in this process; within the `async with` the app's handles work.

        async with Cluster(app, nodes=3) as cluster:
            await shop.buy(order)
            await cluster.kill(0)

    The nodes share one memory engine and one network. Calls go through the wire as on real machines,
    but for those that a node makes to services that it hosts itself.
    """

    def __init__(self, app: App, *, nodes: int = 3, lease_s: float = 1.0) -> None:
        self.app = app
        self.nodes: list[Node] = []
        self.network: MemoryNetwork = MemoryNetwork()
        """Cuts and mends the links between the nodes, by their names."""
        self._count = nodes
        self._lease_s = lease_s
        self._started = 0
        self._clock = SystemClock()
        self._entropy = SystemEntropy()
        self._engine: MemoryEngine | None = None

    async def __aenter__(self) -> Self:
        self._token = CURRENT.set(Call("cluster", {}))
        self._engine = await open_memory("memory:", clock=self._clock, entropy=self._entropy)
        for _ in range(self._count):
            await self.add()
        # `Node.start` has set the context of this task; leaving puts back what was there before.
        CURRENT.set(self.nodes[0].call)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        CURRENT.reset(self._token)
        for node in self.nodes:
            await node.close()
        self.nodes.clear()
        if self._engine is not None:
            await self._engine.close()

    async def add(self, *, zone: str = "", weight: float = 1.0) -> Node:
        """Start one more node and return it."""
        assert self._engine is not None  # noqa: S101 - within `async with` only
        self._started += 1
        name = f"{self.app.name}-{self._started}"
        wire = self.network.wire(name)
        ports = Ports(
            clock=self._clock,
            entropy=self._entropy,
            store=self._engine.store,
            log=self._engine.log,
            wire=wire,
            engines=(self._engine,),
        )
        config = NodeConfig(
            name=name, listen="memory:0", http="off", lease_s=self._lease_s, zone=zone, weight=weight
        )
        node = Node(self.app, config, ports=ports)
        await node.start()
        self.nodes.append(node)
        return node

    async def kill(self, index: int) -> Node:
        """End a node as a crash would: its calls are lost, and its lease ends only in its own time."""
        node = self.nodes.pop(index)
        self.network.kill(node.name)
        await node.crash()
        return node
