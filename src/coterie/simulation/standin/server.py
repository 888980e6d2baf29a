"""The stand-in itself: the memory engine on a host, with the anomalies of real engines on demand."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...engines.memory import MemoryEngine
from ...engines.memory.watches import MemoryWatch
from ...engines.system import SystemClock
from ...errors import CoterieError
from ...ports.store import Batch, Commit, Entry, Put
from ..faults import Damaged
from ..tape import Stream

if TYPE_CHECKING:
    from ..host import Host, Process
    from ..scope import Scope
    from ..world import World
    from .client import StandInClient

__all__ = ["StandIn", "Weakness"]

_TICK_S = 0.1
"""How often leases are looked through, as real engines do."""


class Weakness(enum.StrEnum):
    """An anomaly of real engines; see the table of guarantees in the documentation."""

    STALE_READS = "stale-reads"
    """Reads are served by a replica that lags behind: NATS KV with Direct Get, PostgreSQL's standbys."""
    LOST_WRITES = "lost-writes"
    """The newest acknowledged writes are lost with the leader: Redis with Sentinel, JetStream's default."""
    REPEATED_WRITES = "repeated-writes"
    """The client repeats a write whose answer was lost, so it is applied twice: clients of etcd."""


class StandIn:
    """An engine of a simulated cluster, shared by the hosts that `open` it.

    What it has acknowledged outlives its process and its host, unless it is weak. Its faults of the
    class `engine` are the loss of the leader, and answers that get lost after a write was applied.
    """

    def __init__(
        self,
        world: World,
        name: str = "engine",
        *,
        weak: Iterable[Weakness | str] = (),
        timeout_s: float = 2.0,
        lag_s: float = 0.5,
    ) -> None:
        self.world = world
        self.name = name
        self.weak: frozenset[Weakness] = frozenset(Weakness(each) for each in weak)
        self.timeout_s = timeout_s
        """How long a client waits for an answer."""
        self.lag_s = lag_s
        """How far the replica of a weak engine is behind."""
        self.host: Host = world.add_host(name)
        self.memory: MemoryEngine = MemoryEngine(clock=SystemClock())
        self.terms: int = 0
        """How many leaders there were before this one; a write of an earlier term gets no answer."""
        self.process: Process | None = None
        self._leaderless_until_s = 0.0
        self._losing: tuple[Stream, float] | None = None
        self._history = _History(self)
        world.weaknesses[name] = self._fault

    async def start(self) -> None:
        """Run the engine on its host."""
        await self.world.start(self.name, self._main)

    async def _main(self) -> None:
        owner = self.world.loop.scope.owner
        self.process = owner  # type: ignore[assignment]  # the process that this runs in
        self.terms += 1
        if self.terms == 1:
            self.memory.store.follow(self._history)
        while True:
            await asyncio.sleep(_TICK_S)
            self.memory.store.refresh()

    def open(self) -> StandInClient:
        """Return a client for the host whose code calls this."""
        from .client import StandInClient

        return StandInClient(self, self.world.loop.stack)

    # What clients see of its state.

    @property
    def scope(self) -> Scope | None:
        """The scope of the process that runs now."""
        return None if self.process is None else self.process.scope

    @property
    def leaderless_s(self) -> float:
        """How long it will be before a leader answers."""
        return max(0.0, self._leaderless_until_s - self.world.time)

    @property
    def repeats(self) -> bool:
        """Whether clients repeat a write by themselves when its answer is lost."""
        return Weakness.REPEATED_WRITES in self.weak

    def loses_answer(self) -> bool:
        """Draw whether the answer to a write gets lost."""
        return self._losing is not None and self._losing[0].chance(self._losing[1])

    async def get(self, key: str) -> Entry | None:
        """Read a key: as it is, or as the replica of a weak engine knows it."""
        entry = await self.memory.store.get(key)
        if Weakness.STALE_READS in self.weak:
            return self._history.before(self.world.time - self.lag_s).get(key)
        return entry

    # Faults.

    def _fault(self, stream: Stream) -> Damaged:
        if stream.choose(("leader", "answers")) == "leader":
            outage_s = stream.spread(0.5, 8.0)
            self.lose_leader(outage_s)
            return Damaged(f"{self.name} loses its leader, and has a new one after {outage_s:.2f} s")
        share = stream.uniform(0.1, 0.9)
        self._losing = (self.world.tape.stream(f"engine/{self.name}"), share)

        def undo() -> None:
            self._losing = None

        return Damaged(f"{share:.0%} of the answers of {self.name} to writes get lost", undo)

    def lose_leader(self, outage_s: float) -> None:
        """Answer nothing for `outage_s`, not even what was applied; a weak engine loses writes as well."""
        self._leaderless_until_s = self.world.time + outage_s
        self.terms += 1
        if Weakness.LOST_WRITES in self.weak:
            self.world.loop.create_task(self._lose_writes(self.world.time - self.lag_s))

    async def _lose_writes(self, since_s: float) -> None:
        """Put back what was there before `since_s`. Entries of leases are left: their leases decide."""
        store = self.memory.store
        before = self._history.before(since_s)
        for key in self._history.changed_after(since_s):
            now, then = await store.get(key), before.get(key)
            if now is not None and now.lease:
                continue
            puts = () if then is None else (Put(key, then.value),)
            deletes = (key,) if then is None and now is not None else ()
            try:
                await store.commit(Commit(puts, deletes))
            except CoterieError:
                continue


class _History(MemoryWatch):
    """Everything that was committed, and when: what a replica that lags behind is made of."""

    __slots__ = ("_applied", "_batches", "_server", "_state")

    def __init__(self, server: StandIn) -> None:
        super().__init__(server.memory.store, "")
        self._server = server
        self._batches: list[tuple[float, Batch]] = []
        self._state: dict[str, Entry] = {}
        self._applied = 0

    def offer(self, batch: Batch) -> None:
        if self._server.weak:
            self._batches.append((self._server.world.time, batch))

    def before(self, time_s: float) -> dict[str, Entry]:
        """Return the entries as they were at `time_s`, which never goes back from call to call."""
        while self._applied < len(self._batches) and self._batches[self._applied][0] <= time_s:
            for change in self._batches[self._applied][1].changes:
                if change.value is None:
                    self._state.pop(change.key, None)
                else:
                    self._state[change.key] = Entry(change.key, change.value, change.version)
            self._applied += 1
        return self._state

    def changed_after(self, time_s: float) -> list[str]:
        """Return the keys that were written after `time_s`, each once."""
        found = [batch for at_s, batch in self._batches if at_s > time_s]
        return list(dict.fromkeys(change.key for batch in found for change in batch.changes))
