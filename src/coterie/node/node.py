"""`Node`: runs an app as one member of a cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any

from ..context import CURRENT, Call, Metadata
from ..detection import Detector
from ..errors import AlreadyExists, CoterieError
from ..membership import Member, MemberState
from ..ports import Clock, Entropy
from ..ports.wire import Failure, Listener
from ..services import Dispatcher, ErrorRegistry, MethodSpec, ServiceSpec
from ..telemetry import Family, gauge
from .config import NodeConfig
from .core import Core
from .engines import Ports
from .suspicion import facts_of, start_detector
from .system import SYSTEM, NodeFacts, System, ask

if TYPE_CHECKING:
    from ..app import App
    from ..gateway import HttpServer

__all__ = ["Node"]

_TELL_S = 2.0
"""How long a node that drains tries to tell the others so."""
_LEAVE_S = 5.0
"""How long it tries to give back what it holds."""


class Node:
    """One member: it hosts the app's services, and answers others on the wire and people over HTTP.

    `start`, then `drain` when it shall go, then `close`. With `close` alone it leaves at once, and
    calls under way are cut off. `ports` are opened from `config` when they are not given; given ones
    stay open when the node closes.
    """

    def __init__(self, app: App, config: NodeConfig | None = None, *, ports: Ports | None = None) -> None:
        from .. import __version__

        self.app = app
        self.config: NodeConfig = config or NodeConfig()
        self.id: str = ""
        self.http_address: str = ""
        """The base URL of the HTTP gateway, or empty."""
        self._version = __version__
        self._core = Core(app, self.config, self.config.name, ports)
        self._listener: Listener | None = None
        self._http: HttpServer | None = None
        self._dispatcher: Dispatcher | None = None
        self._detector: Detector | None = None
        self._began = 0.0
        self._draining = False
        self._closed = False

    # What the HTTP gateway asks for.

    @property
    def name(self) -> str:
        return self._core.name

    @property
    def app_name(self) -> str:
        return self.app.name

    @property
    def services(self) -> Mapping[str, ServiceSpec]:
        return self.app.services

    @property
    def errors(self) -> ErrorRegistry:
        return self.app.errors

    @property
    def entropy(self) -> Entropy:
        return self._core.ports.entropy

    @property
    def clock(self) -> Clock:
        return self._core.ports.clock

    @property
    def wire_address(self) -> str:
        """Where other nodes reach this one."""
        return "" if self._listener is None else self._listener.address

    @property
    def pending(self) -> int:
        """How many calls are being answered."""
        return 0 if self._dispatcher is None else self._dispatcher.pending

    @property
    def call(self) -> Call:
        """The root call of the node, under which the handles work: `CURRENT.set(node.call)`."""
        return self._core.root

    async def start(self) -> None:
        """Open the engine, start the services, join the cluster and serve.

        Raises `InvalidConfiguration`, `Unsupported`, `CorruptData` or `Unavailable`, each of which
        says what to do; whatever was opened is closed again.
        """
        await self._core.open()
        try:
            await self._start()
            self._core.start_duties()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        core = self._core
        ports = core.ports
        self._began = ports.clock.monotonic()
        self.id = ports.entropy.identifier()
        core.name = core.root.node = self.config.name or f"{socket.gethostname()}-{self.id[-4:].lower()}"
        await self._refuse_a_double()
        instances: dict[str, object] = {}
        core.bind(instances)
        await core.follow()
        CURRENT.set(core.root)
        for spec in self.app.services.values():
            instances[spec.name] = await self._instance(spec)
        core.bind(instances)
        self._dispatcher = Dispatcher(
            core.name,
            {**self.app.services, SYSTEM.name: SYSTEM},
            {**instances, SYSTEM.name: System(self.facts)},
            bindings=core.bindings,
            errors=self.app.errors,
            clock=ports.clock,
            ledger=core.ledger,
            listener=core.on_policy,
            admissions=core.admissions,
        )
        handlers = dataclasses.replace(self._dispatcher.handlers(), datagram=self._on_datagram)
        self._listener = await ports.wire.listen(self.config.wire_address, handlers)
        core.stack.push_async_callback(self._listener.close)
        if self.config.http != "off":
            await self._start_http()
        me = Member(
            id=self.id,
            name=core.name,
            address=self._listener.address,
            http=self.http_address,
            services=tuple(sorted(self.app.services)),
            state=MemberState.SERVING,
            started=ports.clock.time(),
            version=self._version,
            pid=os.getpid(),
            host=socket.gethostname(),
            zone=self.config.zone,
            weight=self.config.weight,
        )
        await core.membership.join(me)
        if self.config.gossip_s:
            self._detector = start_detector(core, me, lambda: self.pending)

    def _on_datagram(self, body: bytes, peer: str) -> None:
        if self._detector is not None:
            self._detector.datagram(body, peer)

    async def _instance(self, spec: ServiceSpec) -> object:
        instance: object = spec.cls()
        if isinstance(instance, AbstractAsyncContextManager):
            await self._core.stack.enter_async_context(instance)
        return instance

    async def _start_http(self) -> None:
        from ..gateway import GatewayConfig, HttpServer

        config = GatewayConfig(address=self.config.http, token=self.config.http_token)
        self._http = HttpServer(self, config, clock=self._core.ports.clock)
        await self._http.start()
        self._core.stack.push_async_callback(self._http.close)
        self.http_address = f"http://{self._http.address}"

    async def _refuse_a_double(self) -> None:
        """Refuse to start beside a live node of the same name, and forget a dead one at once."""
        membership = self._core.membership
        doubles = [m for m in membership.view.members.values() if m.name == self.config.name and m.address]
        for member in doubles:
            try:
                wire = self._core.ports.wire
                answer = await ask(wire, member.address, SYSTEM.methods["ping"], timeout_s=1.0)
            except (CoterieError, Failure):
                answer = None  # Nobody there, or somebody else.
            if answer == member.id:
                raise AlreadyExists(
                    f"a node called {member.name!r} runs already (pid {member.pid} on {member.host})",
                    hint="stop the other, or give this one another name: --name; COTERIE_NAME for `up`",
                )
            await membership.evict(member)

    async def drain(self, timeout_s: float | None = None) -> int:
        """Take nothing new, finish what was accepted, and return how many calls were not finished in time."""
        timeout_s = self.config.drain_s if timeout_s is None else timeout_s
        if self._draining or self._listener is None:
            return self.pending
        self._draining = True
        deadline = self._core.ports.clock.monotonic() + timeout_s
        await asyncio.gather(self._tell_that_it_drains(timeout_s), self._resign(timeout_s))
        left_s = max(0.0, deadline - self._core.ports.clock.monotonic())
        if self._http is not None:
            await asyncio.gather(self._http.drain(left_s), self._listener.drain(left_s))
        else:
            await self._listener.drain(left_s)
        if self._core.ledger is not None:
            await self._core.ledger.drain(max(0.0, deadline - self._core.ports.clock.monotonic()))
        return self.pending

    async def _tell_that_it_drains(self, timeout_s: float) -> None:
        # Otherwise the others find out when they call: a draining node refuses, and nothing is lost.
        with suppress(CoterieError, TimeoutError):
            async with asyncio.timeout(min(timeout_s, _TELL_S)):
                await self._core.membership.announce(MemberState.DRAINING)

    async def _resign(self, timeout_s: float) -> None:
        """End what this node does as a leader, so that another can begin."""
        if self._core.duties is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._core.duties.stop()

    async def close(self) -> None:
        """Leave the cluster and release everything. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._detector is not None:
            self._detector.leave()
        try:
            if self.id:
                await self._leave()
        finally:  # Whatever the engine does, and also when nobody waits any longer.
            await self._core.close()

    async def _leave(self) -> None:
        """Give back what the node holds, so that nobody has to wait for leases to end."""
        core = self._core
        with suppress(CoterieError, TimeoutError):  # They end by themselves.
            async with asyncio.timeout(_LEAVE_S):
                if core.duties is not None:
                    await core.duties.stop()
                if core.ledger is not None:
                    await core.ledger.release()
                if core.coordination is not None:
                    await core.coordination.release()
                await core.membership.leave()

    async def crash(self) -> None:
        """Stop as `kill -9` would, as far as that can be done within a process: nothing is said to anyone."""
        self._closed = True
        if self._core.ledger is not None:
            await self._core.ledger.close()
        if self._core.coordination is not None:
            await self._core.coordination.close()
        await self._core.membership.close()
        await self._core.close()

    async def invoke(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> Any:
        assert self._dispatcher is not None  # noqa: S101 - the gateway starts after it
        return await self._dispatcher.invoke(method, arguments, timeout_s=timeout_s, metadata=metadata)

    def stream(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> AsyncIterator[Any]:
        assert self._dispatcher is not None  # noqa: S101 - the gateway starts after it
        return self._dispatcher.stream(method, arguments, timeout_s=timeout_s, metadata=metadata)

    def ready(self) -> Sequence[str]:
        """Return why the node should get no traffic now: empty when it is ready."""
        reasons = []
        if self._draining or self._closed:
            reasons.append("the node is draining")
        elif not self._core.membership.joined:
            reasons.append("the node is not in the cluster: its lease is not certain")
        elif not self._core.membership.fresh:
            reasons.append("the view of the cluster is not up to date: the store does not answer")
        return reasons

    def facts(self) -> NodeFacts:
        """Return the node's account of itself."""
        core = self._core
        reasons = tuple(self.ready())
        return NodeFacts(
            id=self.id,
            name=core.name,
            app=self.app.name,
            version=self._version,
            uptime_s=round(core.ports.clock.monotonic() - self._began, 3),
            calls=0 if self._dispatcher is None else self._dispatcher.calls,
            pending=self.pending,
            ready=not reasons,
            reasons=reasons,
            members=len(core.membership.view.members),
            engines={engine.name: engine.statistics() for engine in core.ports.engines},
            gossip=None if self._detector is None else facts_of(self._detector, core.membership.view.members),
        )

    def collect(self) -> Iterable[Family]:
        """Return the node's metrics."""
        core = self._core
        if self._dispatcher is not None:
            yield from self._dispatcher.collect()
        yield core.policy_events.family()
        if self._detector is not None:
            yield from self._detector.collect()
        if core.ledger is not None:
            yield core.ledger.events.family()
        yield gauge("coterie_members", "Members that this node sees.", len(core.membership.view.members))
        yield gauge("coterie_node_ready", "Whether the node is ready for traffic.", not self.ready())
        uptime_s = core.ports.clock.monotonic() - self._began
        yield gauge("coterie_node_uptime_seconds", "How long the node has been up.", uptime_s)
        for engine in core.ports.engines:
            for name, value in engine.statistics().items():
                if not isinstance(value, str):
                    yield gauge(f"coterie_engine_{engine.name}_{name}", f"{engine.name}: {name}.", value)
