"""Each store does what the model does, whatever the order; and a broken one is found out."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from store_machine import SETTINGS, StoreMachine

from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock
from coterie.ports import Store
from coterie.ports.store import Batch, Change, Commit, Entry


class ManualClock(SystemClock):
    """A clock that stands still until it is told."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class MemoryMachine(StoreMachine):
    """The memory store on a clock that the machine moves."""

    store_type: type[MemoryStore] = MemoryStore

    def __init__(self) -> None:
        self.clock = ManualClock()
        super().__init__()

    async def open(self) -> Store:
        return self.store_type(clock=self.clock)

    def now(self) -> float:
        return self.clock.now

    @rule(seconds=st.sampled_from([0.1, 2.5, 4.999, 5.0, 30.0]))
    def advance(self, seconds: float) -> None:
        self.clock.now += seconds
        alive = set(self.model.leases)
        self.model.expire(self.clock.now)
        self.ended += sorted(alive - set(self.model.leases))
        self.model.note(self.run(self.store.commit(Commit())))


TestMemoryStore = MemoryMachine.TestCase
TestMemoryStore.settings = SETTINGS


class ForgetsToDetach(MemoryStore):
    """A key that was put again without its lease vanishes with it all the same."""

    def _place(self, entry: Entry) -> None:
        known = self._entries.get(entry.key)
        super()._place(entry)
        if known is not None and known.lease in self._leases and not entry.lease:
            self._leases.attach(known.lease, entry.key)


class RenewsLate(MemoryStore):
    """A lease that is over by less than a second can still be renewed."""

    def refresh(self) -> None:
        now, self._clock.now = self._clock.now, self._clock.now - 0.5
        super().refresh()
        self._clock.now = now


class ChecksTooEarly(MemoryStore):
    """The check is of the state before the commit waited for its turn."""

    async def commit(self, commit: Commit) -> int:
        self.refresh()
        self._demand(commit)
        await super().commit(Commit(fences=commit.fences))
        return self._write(commit)


class WatchesInHalves(MemoryStore):
    """A watch is told of puts and deletes one after the other."""

    def _publish(self, changes: list[Change]) -> None:
        for change in changes:
            super()._publish([change])


class SnapshotsGrowOld(MemoryStore):
    """The snapshot of a watch is that of the first watch of its prefix."""

    def snapshot(self, prefix: str) -> Batch:
        return self.__dict__.setdefault(prefix, super().snapshot(prefix))


class LowersTokens(MemoryStore):
    """A fence keeps the newest token, not the greatest."""

    async def commit(self, commit: Commit) -> int:
        revision = await super().commit(commit)
        self._tokens.update((fence.name, fence.token - 1) for fence in commit.fences)
        return revision


class CountsDeletes(MemoryStore):
    """A page with a deleted neighbour says that others follow."""

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000):  # type: ignore[no-untyped-def]
        page = await super().scan(prefix, after=after, limit=limit)
        return type(page)(page.entries, page.revision, more=page.more or len(page.entries) == limit)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "broken",
    [
        ForgetsToDetach,
        RenewsLate,
        ChecksTooEarly,
        WatchesInHalves,
        SnapshotsGrowOld,
        LowersTokens,
        CountsDeletes,
    ],
)
def test_the_machine_finds_a_broken_store(broken: type[MemoryStore]) -> None:
    class Broken(MemoryMachine):
        store_type = broken

    # A lease that still names a key may also be ended after the key was deleted, which no store would do.
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(
            Broken,
            # Ends at the first failure, so that a rare one may take many examples.
            settings=settings(SETTINGS, phases=["generate"], report_multiple_bugs=False, max_examples=2000),
        )
