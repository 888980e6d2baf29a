"""Several nodes of an app in one process, on the memory engine."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..context import CURRENT, Call
from ..engines.memory import MemoryEngine, MemoryNetwork
from ..engines.memory import open_engine as open_memory
from ..engines.system import SystemClock, SystemEntropy
from ..errors import InvalidConfiguration
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
    but for those that a node makes to services that it hosts itself. The handles work as on the first
    node that was not killed.
    """

    def __init__(self, app: App, *, nodes: int = 3, lease_s: float = 1.0) -> None:
        self.app = app
        self.nodes: list[Node] = []
        self.network: MemoryNetwork = MemoryNetwork()
        """Cuts and mends the links between the nodes, by their names."""
        if nodes < 1:
            raise InvalidConfiguration(f"a cluster has at least one node, not {nodes}")
        self._count = nodes
        self._lease_s = lease_s
        self._started = 0
        self._clock = SystemClock()
        self._entropy = SystemEntropy()
        self._engine: MemoryEngine | None = None
        self._call: Call = Call("cluster", {})
        """Of the code within the `async with`, wherever it has got it from: it leads to a living node."""

    async def __aenter__(self) -> Self:
        self._engine = await open_memory("memory:", clock=self._clock, entropy=self._entropy)
        try:
            for _ in range(self._count):
                await self.add()
        except BaseException:
            await self._close()
            raise
        self._token = CURRENT.set(self._call)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        CURRENT.reset(self._token)
        await self._close()

    async def _close(self) -> None:
        async with AsyncExitStack() as stack:
            if self._engine is not None:
                stack.push_async_callback(self._engine.close)
            for node in reversed(self.nodes):
                stack.push_async_callback(node.close)
            self.nodes.clear()

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
        token = CURRENT.set(self._call)  # `Node.start` makes its own node the current one.
        try:
            await node.start()
        finally:
            CURRENT.reset(token)
        self.nodes.append(node)
        self._lead()
        return node

    async def kill(self, index: int) -> Node:
        """End a node as a crash would: its calls are lost, and its lease ends only in its own time."""
        node = self.nodes.pop(index)
        self.network.kill(node.name)
        await node.crash()
        self._lead()
        return node

    def _lead(self) -> None:
        """Let the handles lead to the first node. What is dead answers nobody, in this process neither."""
        if self.nodes:
            self._call.node, self._call.bindings = self.nodes[0].name, self.nodes[0].call.bindings
