"""The same services in three places: in the caller's process, behind the memory wire, and behind TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

from coterie.context import CURRENT, Call, Metadata
from coterie.engines.memory import MemoryNetwork
from coterie.engines.system import SystemEntropy
from coterie.engines.tcp import TcpWire
from coterie.ports.wire import Handlers, Listener, Wire
from coterie.services import (
    CallConfig,
    Channels,
    Dispatcher,
    Endpoint,
    ErrorRegistry,
    ServiceBinding,
    ServiceSpec,
    describe,
    make_client,
)

__all__ = ["PLACES", "Directory", "Place", "eventually", "open_place"]

PLACES = ("here", "memory", "tcp")

S = TypeVar("S")


class Directory:
    """A view of the cluster that tests change by hand."""

    def __init__(self) -> None:
        self.live: dict[str, list[Endpoint]] = {}
        self._changed = asyncio.Event()

    def endpoints(self, service: str) -> Sequence[Endpoint]:
        return self.live.get(service, [])

    async def wait_changed(self) -> None:
        await self._changed.wait()

    def changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def add(self, service: str, node: str, address: str) -> None:
        self.live[service] = [*self.live.get(service, []), Endpoint(node, address)]
        self.changed()

    def remove(self, node: str) -> None:
        for service, endpoints in self.live.items():
            self.live[service] = [endpoint for endpoint in endpoints if endpoint.node != node]
        self.changed()


class Place:
    """A caller, and nodes that host services for it: other nodes, or `here` the caller itself."""

    def __init__(self, kind: str, *, timeout_s: float = 20.0, patience_s: float = 2.0) -> None:
        self.kind = kind
        self.errors = ErrorRegistry()
        self.directory = Directory()
        self.bindings: dict[object, Any] = {}
        self.listeners: dict[str, Listener] = {}
        self.dispatchers: dict[str, Dispatcher] = {}
        self.wires: list[Wire] = []
        self._network = MemoryNetwork()
        self._entropy = SystemEntropy()
        self._config = CallConfig(timeout_s=timeout_s, patience_s=patience_s)
        self._specs: dict[type, ServiceSpec] = {}
        self.channels = Channels(self.wire("caller"))

    @property
    def remote(self) -> bool:
        return self.kind != "here"

    def wire(self, node: str) -> Wire:
        """Return a new wire, for a node of that name."""
        wire: Wire = TcpWire(entropy=self._entropy) if self.kind == "tcp" else self._network.wire(node)
        self.wires.append(wire)
        return wire

    def spec(self, cls: type) -> ServiceSpec:
        if cls not in self._specs:
            self._specs[cls] = describe(cls)
        return self._specs[cls]

    async def serve(self, instance: S, *, node: str = "callee") -> S:
        """Host a service, and return a client of it."""
        if self.remote:
            spec = self.spec(type(instance))
            dispatcher = Dispatcher(
                node, {spec.name: spec}, {spec.name: instance}, bindings=self.bindings, errors=self.errors
            )
            self.dispatchers[node] = dispatcher
            await self.listen(spec.name, dispatcher.handlers(), node=node)
            return self.client(type(instance))
        return self.client(type(instance), instance)

    async def listen(self, service: str, handlers: Handlers, *, node: str) -> Listener:
        """Let `node` answer calls to `service` with `handlers`."""
        free = "127.0.0.1:0" if self.kind == "tcp" else "memory:0"
        listener = self.listeners[node] = await self.wire(node).listen(free, handlers)
        self.directory.add(service, node, listener.address)
        return listener

    def client(self, cls: type[S], instance: object | None = None) -> S:
        spec = self.spec(cls)
        self.bindings[spec] = ServiceBinding(
            spec,
            instance=instance,
            directory=self.directory,
            channels=self.channels,
            errors=self.errors,
            entropy=self._entropy,
            config=self._config,
        )
        return cast("S", make_client(spec))

    @contextmanager
    def calling(self, timeout_s: float | None = None, metadata: Metadata | None = None) -> Iterator[None]:
        """Let the clients work in the caller, which has so much time."""
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        token = CURRENT.set(Call("caller", self.bindings, deadline, metadata))
        try:
            yield
        finally:
            CURRENT.reset(token)

    async def close(self) -> None:
        await self.channels.close()
        for listener in self.listeners.values():
            await listener.close()
        for wire in self.wires:
            await wire.close()


@asynccontextmanager
async def open_place(kind: str, **options: float) -> AsyncIterator[Place]:
    """Open a place; at the end nothing may be left of it."""
    before = asyncio.all_tasks()
    place = Place(kind, **options)
    try:
        with place.calling():
            yield place
    finally:
        await place.close()
    await eventually(lambda: not asyncio.all_tasks() - before - {asyncio.current_task()})


async def eventually(condition: Any) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)
