"""What a node and a mere connection have in common: ports, bindings, a view of the cluster."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from ..context import Call
from ..coordination import Coordination, CoordinationConfig, Duties, Instance, Instances, JobRunner
from ..errors import InvalidConfiguration
from ..membership import Event, Membership, MembershipConfig
from ..resilience import Balancer, Local, PolicyEvent, PolicyEventKind, RateBinding
from ..services import (
    Admissions,
    CallConfig,
    Channels,
    ClientSpec,
    Endpoint,
    Plans,
    Policies,
    ReplyLedger,
    ServiceBinding,
)
from ..state import MapBinding, Transactional, TransactionBinding
from ..telemetry import Counter
from .config import NodeConfig
from .engines import Ports, check_guarantees, open_ports, open_wire

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Core", "Directory"]

_log = logging.getLogger("coterie.node")


class Core:
    """Opens the ports, follows the cluster, and binds an app's handles to both.

    Used by `Node`, which also serves, and by `connect`, which only calls.
    """

    def __init__(
        self,
        app: App,
        config: NodeConfig,
        name: str,
        ports: Ports | None,
        calls: CallConfig | None = None,
    ) -> None:
        self.app = app
        self.calls: CallConfig = calls or CallConfig()
        self.config = config
        self.name = name
        self.bindings: dict[object, Any] = {}
        self.root: Call = Call(name, self.bindings)
        self.stack: AsyncExitStack[bool | None] = AsyncExitStack()
        self.policy_events: Counter = Counter(
            "coterie_policy_events_total",
            "What policies did: retry, hedge, open, eject, shed and so on.",
            ("name", "event"),
        )
        self.admissions: Admissions = Admissions()
        """How much a node takes on, from `bind` on."""
        self.ledger: ReplyLedger | None = None
        """The replies of idempotent methods, from `bind` on."""
        self.coordination: Coordination | None = None
        """What is held and waited for here, from `bind` on."""
        self.on_members: Callable[[], None] = lambda: None
        """Called when the view of the cluster has changed."""
        self.duties: Duties | None = None
        """What a node does without being asked; none for a mere caller."""
        self._given = ports
        self._forgetting: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the ports and see the cluster. Closes again what it opened when it fails."""
        try:
            self.ports: Ports = self._given or await self._open_ports()
            check_guarantees(self.app, self.ports.store)
            self.membership: Membership = Membership(
                self.ports.store,
                f"{self.app.name}/member/",
                clock=self.ports.clock,
                entropy=self.ports.entropy,
                config=_lease(self.config.lease_s),
                on_event=self._on_event,
            )
            self.directory: Directory = Directory(self.membership)
            self.channels: Channels = Channels(self.ports.wire)
            self.stack.push_async_callback(self.channels.close)
            self.stack.push_async_callback(self.membership.close)
            await self.membership.start()
        except BaseException:
            await self.stack.aclose()
            raise

    async def _open_ports(self) -> Ports:
        from ..engines.system import SystemClock, SystemEntropy

        clock, entropy = SystemClock(), SystemEntropy()
        wire = await open_wire(self.config, entropy=entropy)
        self.stack.push_async_callback(wire.close)
        return await open_ports(
            self.app.name, self.config, self.stack, clock=clock, entropy=entropy, wire=wire
        )

    def bind(self, instances: Mapping[str, object]) -> None:
        """Tell the handles of the app where they lead on this node."""
        store, entropy = self.ports.store, self.ports.entropy
        for declared in self.app.maps.values():
            prefix = f"{self.app.name}/map/{declared.name}/"
            self.bindings[declared] = MapBinding(store=store, prefix=prefix, entropy=entropy)
        self.bindings[Transactional] = TransactionBinding(store=store, entropy=entropy)
        if self.coordination is None:
            self.coordination = Coordination(
                store,
                self.app.name,
                clock=self.ports.clock,
                entropy=entropy,
                node=self.name,
                config=_locks(self.config.lease_s),
            )
            self.stack.push_async_callback(self.coordination.close)
        self.bindings[Coordination] = self.coordination
        self.bindings[Instances] = self.directory
        for limit in self.app.rate_limits.values():
            prefix = f"{self.app.name}/rate/{limit.name}/"
            self.bindings[limit] = RateBinding(
                limit, store=store, prefix=prefix, clock=self.ports.clock, listener=self.on_policy
            )
        specs = {**self.app.clients, **self.app.services}
        policies = Policies(app=self.app.policy, overrides=self.config.policy)
        policies.check(specs)
        self.admissions = Admissions(app=self.app.admission, overrides=self.config.admission)
        self.admissions.check(specs)
        if self.ledger is None:
            self.ledger = ReplyLedger(
                store,
                f"{self.app.name}/reply/",
                errors=self.app.errors,
                entropy=entropy,
                retention_s=self.config.replies_s,
                claim_s=self.config.lease_s,
            )
            self.stack.push_async_callback(self.ledger.close)
        for spec in (*self.app.services.values(), *self.app.clients.values()):
            self.bindings[spec] = self._binding(ClientSpec(service=spec), policies, instances)
        for client in self.app.tuned:
            self.bindings[client] = self._binding(client, policies, instances)

    async def follow(self) -> None:
        """Read what is configured, and follow it. Raises `Unavailable` when the Store cannot be read."""
        assert self.coordination is not None  # noqa: S101 - after `bind` only
        if self.app.leaders or self.app.jobs or self.app.configs:
            self.coordination.demand()
        followers = Duties(self.ports.entropy)
        self.stack.push_async_callback(followers.stop)
        for settings in self.app.configs.values():
            feed = self.bindings[settings] = settings.feed(self.coordination)
            await feed.start()
            followers.run(feed.follow(), f"coterie-config-{settings.name}")

    def start_duties(self) -> None:
        """Campaign for what a leader does, and run what is scheduled, in the context of the node."""
        assert self.coordination is not None  # noqa: S101 - after `bind` only
        self.duties = Duties(self.ports.entropy)
        self.stack.push_async_callback(self.duties.stop)
        self.duties.start(self.app.leaders.values())
        for job in self.app.jobs.values():
            self.duties.run(JobRunner(job, self.coordination).follow(), f"coterie-schedule-{job.name}")

    def _binding(
        self, client: ClientSpec, policies: Policies, instances: Mapping[str, object]
    ) -> ServiceBinding:
        spec = client.service
        plans = Plans(
            spec,
            lambda method: policies.of(spec, method, client.policy).policy,
            priority_of=lambda method: self.admissions.of_method(spec, method).value.priority,
            timeout_s=self.calls.timeout_s,
            new_balancer=lambda: _at_home(copy.deepcopy(client.balancer), self.config.zone),
            key=client.key,
            listener=self.on_policy,
            attempts=bool(self.app.policy_listeners),
        )
        return ServiceBinding(
            spec,
            instance=instances.get(spec.name),
            directory=self.directory,
            channels=self.channels,
            errors=self.app.errors,
            entropy=self.ports.entropy,
            config=self.calls,
            plans=plans,
            ledger=self.ledger,
        )

    def on_policy(self, event: PolicyEvent) -> None:
        """Count what a policy did, and tell who listens."""
        if event.kind is not PolicyEventKind.ATTEMPT:
            self.policy_events.add((event.name, event.kind.value))
        for listener in self.app.policy_listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - what watches a call must not fail it
                _log.exception("a listener of policies failed at %s", event)

    async def close(self) -> None:
        """Release everything. Idempotent."""
        await self.stack.aclose()

    def _on_event(self, event: Event) -> None:
        _log.info("%s %s (%s)", event.member.name, event.kind, event.member.address or "a caller")
        self.directory.refresh()
        self.on_members()
        if event.kind == "left":
            asyncio.get_running_loop().call_soon(self._forget_channels)

    def _forget_channels(self) -> None:
        keep = [member.address for member in self.membership.view.members.values()]
        task = asyncio.create_task(self.channels.retain(keep))
        self._forgetting.add(task)  # The loop itself holds tasks only weakly.
        task.add_done_callback(self._forgetting.discard)


class Directory:
    """The members that serve, as the services look them up.

    Who is there is what the Store says. Whom others hold to be dead is a hint beside it.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._suspected: frozenset[str] = frozenset()
        self.refresh()

    def suspect(self, ids: frozenset[str]) -> None:
        """Let these nodes, and no others, be called last."""
        if ids != self._suspected:
            self._suspected = ids
            self.refresh()

    def refresh(self) -> None:
        suspected = self._suspected
        self._endpoints = {
            service: tuple(
                Endpoint(each.id, each.address, each.zone, each.weight, each.id in suspected)
                for each in members
            )
            for service, members in self._membership.view.serving().items()
        }

    def endpoints(self, service: str) -> Sequence[Endpoint]:
        return self._endpoints.get(service, ())

    def instances(self, service: str) -> Sequence[Instance]:
        members = self._membership.view.serving().get(service, ())
        return [Instance(member.id, member.name, member.address, member.http) for member in members]

    async def wait_changed(self) -> None:
        await self._membership.wait_changed()


def _at_home(balancer: Balancer | None, zone: str) -> Balancer | None:
    """Return the balancer with this node's zone, if it wants one and has none."""
    if isinstance(balancer, Local) and not balancer.zone:
        return dataclasses.replace(balancer, zone=zone)
    return balancer


def _lease(lease_s: float) -> MembershipConfig:
    try:
        return MembershipConfig(lease_ttl_s=lease_s, margin_s=min(0.25, lease_s / 4))
    except ValueError as error:
        raise InvalidConfiguration(str(error)) from error


def _locks(lease_s: float) -> CoordinationConfig:
    return CoordinationConfig(lease_s=lease_s, margin_s=min(0.25, lease_s / 4))
