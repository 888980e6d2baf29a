"""Memory engines that act as durable ones: several clients share one state, which outlives them all.

The mutants of the suites stand on these, so that the checks of several clients and of reopening are
held against broken engines too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from coterie.engines.memory import MemoryLog, MemoryStore
from coterie.engines.system import SystemClock
from coterie.ports import Durability, Log, LogGuarantees, Scope, Store, StoreGuarantees


@dataclass
class Disk:
    """What outlives a client: the objects of the first one, and the counters by name."""

    objects: dict[str, Any] = field(default_factory=dict)
    revision: int = 0


class DiskStore(MemoryStore):
    """A client of a shared store."""

    _SHARED = ("_entries", "_keys", "_tokens", "_leases", "_watches")

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        first_of_its_disk = not disk.objects
        super().__init__(clock=SystemClock())
        for name in self._SHARED:
            setattr(self, name, disk.objects.setdefault(name, getattr(self, name)))
        if not first_of_its_disk:
            self._set_timer()

    @property
    def _revision(self) -> int:
        return self.disk.revision

    @_revision.setter
    def _revision(self, revision: int) -> None:
        self.disk.revision = revision or self.disk.revision  # 0 is what each client begins with

    @property
    def guarantees(self) -> StoreGuarantees:
        return replace(super().guarantees, durability=Durability.PROCESS_CRASH, scope=Scope.MACHINE)

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for watch in [watch for watch in self._watches if watch._store is self]:
            del self._watches[watch]
            watch.wake()


class DiskLog(MemoryLog):
    """A client of a shared log."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(clock=SystemClock())
        self.disk = disk
        self._topics = disk.objects.setdefault("_topics", self._topics)

    @property
    def guarantees(self) -> LogGuarantees:
        return replace(super().guarantees, durability=Durability.PROCESS_CRASH, scope=Scope.MACHINE)


class DiskStores:
    """`StoreFixture` of clients of one disk."""

    def __init__(self, client: type[DiskStore] = DiskStore) -> None:
        self._client = client
        self._disk = Disk()
        self._clients: list[DiskStore] = [client(self._disk)]

    @property
    def store(self) -> Store:
        return self._clients[0]

    async def connect(self) -> Store:
        self._clients.append(self._client(self._disk))
        return self._clients[-1]

    async def reopen(self) -> Store:
        await self.close()
        return await self.connect()

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))


class DiskLogs:
    """`LogFixture` of clients of one disk."""

    def __init__(self, client: type[DiskLog] = DiskLog) -> None:
        self._client = client
        self._disk = Disk()
        self._clients: list[DiskLog] = [client(self._disk)]

    @property
    def log(self) -> Log:
        return self._clients[0]

    async def connect(self) -> Log:
        self._clients.append(self._client(self._disk))
        return self._clients[-1]

    async def reopen(self) -> Log:
        await self.close()
        return await self.connect()

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))
