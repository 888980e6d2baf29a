"""A cluster that the laboratory starts, to do faults to."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ... import lab
from ...engines.system import SystemClock, SystemEntropy
from ...node.engines import open_engine
from ...ports import Engine
from .system import System, Victim

__all__ = ["LabSystem"]

_BY_HAND = frozenset({"postgres", "redis", "valkey"})
"""Engines whose replicas are promoted by hand."""
_ALL = frozenset({"kill", "pause", "partition", "restart"})
_ONE_PRIMARY = frozenset({"redis", "valkey"})
"""Engines whose clients are told the address of the primary, and no other."""
_LEADER_S = 3.0


class LabSystem(System):
    """`members` of an engine on this machine, which end with it."""

    def __init__(
        self, engine: str, *, members: int, network: lab.NetworkKind, settings: Mapping[str, str]
    ) -> None:
        self.name: str = engine
        self.settings: Mapping[str, str] = settings
        self.cluster: lab.Cluster = lab.start(engine, members=members, network=network, settings=settings)
        self.faults: frozenset[str] = _ALL | {"failover"} if engine in _BY_HAND and members > 1 else _ALL
        self.version: str = ""
        self.origin: str = ""
        self.victim: Victim | None = None
        self.generation: int = 0
        self._primary = 0

    async def __aenter__(self) -> Self:
        await self.cluster.__aenter__()
        self.version, self.origin = self.cluster.binary.version, self.cluster.binary.origin
        self.victim = _Members(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cluster.__aexit__(kind, error, traceback)

    @property
    def url(self) -> str:
        if self.name in _ONE_PRIMARY:
            return self.cluster.urls[self._primary]
        return self.cluster.url

    async def open(self, client: int) -> Engine:
        url = self.url if self.name in _ONE_PRIMARY else self.cluster.engine_url
        return await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())

    def moved(self, primary: int) -> None:
        """Send clients to another primary."""
        self._primary = primary
        if self.name in _ONE_PRIMARY:
            self.generation += 1


class _Members:
    """`Victim` on a cluster of the laboratory."""

    def __init__(self, system: LabSystem) -> None:
        self._system = system
        self._cluster = system.cluster

    @property
    def size(self) -> int:
        return len(self._cluster.members)

    async def leader(self) -> int:
        return await self._cluster.leader(within_s=_LEADER_S)

    def running(self, member: int) -> bool:
        return self._cluster.members[member].state == "running"

    async def kill(self, member: int) -> None:
        await self._cluster.kill(member)

    async def stop(self, member: int) -> None:
        await self._cluster.stop(member)

    async def start(self, member: int) -> None:
        await self._cluster.restart(member)

    async def pause(self, member: int) -> None:
        await self._cluster.pause(member)

    async def resume(self, member: int) -> None:
        await self._cluster.resume(member)

    async def cut(self, member: int, how: str) -> None:
        others = [other for other in range(self.size) if other != member]
        if how == "from-clients":
            await self._cluster.cut("client", member)
        elif how == "one-way":
            for other in others:
                await self._cluster.cut(other, member, both=False)
        else:
            await self._cluster.partition({member}, set(others))

    async def heal(self) -> None:
        cluster = self._cluster
        await cluster.heal()
        for member in cluster.members:
            if member.state == "paused":
                await cluster.resume(member.index)
        stopped = [member.index for member in cluster.members if member.state == "stopped"]
        if stopped:
            await cluster.restart(*stopped)
        await cluster.wait_ready()

    async def promote(self, member: int) -> None:
        await self._cluster.promote(member)
        self._system.moved(member)
