"""What the memory store promises beyond the port's contract, which the conformance suite holds it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from coterie.engines.memory import MemoryStore
from coterie.engines.memory.watches import MAX_BUFFERED_CHANGES
from coterie.engines.system import SystemClock
from coterie.errors import Conflict, LeaseLost
from coterie.ports.store import ABSENT, Change, Check, Commit, Put


class ManualClock(SystemClock):
    """A clock that stands still until it is told."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[MemoryStore]:
    store = MemoryStore(clock=clock)
    yield store
    await store.close()


async def test_nothing_is_seen_after_its_lease_however_late_the_timer(
    store: MemoryStore, clock: ManualClock
) -> None:
    lease = await store.grant(5)
    version = await store.commit(Commit((Put("key", b"", lease),)))
    clock.now += 4.999
    assert await store.get("key") is not None
    clock.now += 0.001  # the loop's timer has seen none of this
    assert await store.get("key") is None
    assert (await store.scan("")).entries == ()
    with pytest.raises(LeaseLost):
        await store.renew(lease)
    with pytest.raises(Conflict):
        await store.commit(Commit(checks=(Check("key", version),)))
    await store.commit(Commit(checks=(Check("key", ABSENT),)))


async def test_a_commit_that_waits_past_its_lease_is_refused(store: MemoryStore, clock: ManualClock) -> None:
    lease = await store.grant(5)
    commit = asyncio.ensure_future(store.commit(Commit((Put("key", b"", lease),))))
    asyncio.get_running_loop().call_soon(setattr, clock, "now", clock.now + 5)
    with pytest.raises(LeaseLost):
        await commit


async def test_leases_that_end_together_are_a_commit_each(store: MemoryStore, clock: ManualClock) -> None:
    first, second, empty = await store.grant(5), await store.grant(4), await store.grant(3)
    await store.commit(Commit((Put("a", b"", first), Put("b", b"", second), Put("c", b"", first))))
    async with store.watch("") as watch:
        await anext(watch)
        clock.now += 10
        assert (await anext(watch)).changes == (Change("b", None, 2),)
        assert (await anext(watch)).changes == (Change("a", None, 3), Change("c", None, 3))
    with pytest.raises(LeaseLost):
        await store.renew(empty)


async def test_a_short_lease_is_not_held_up_by_the_timer_of_a_long_one() -> None:
    store = MemoryStore(clock=SystemClock())
    await store.grant(3600)
    lease = await store.grant(0.05)
    await store.commit(Commit((Put("key", b"", lease),)))
    async with store.watch("") as watch:
        await anext(watch)
        async with asyncio.timeout(20):
            assert [change.key for change in (await anext(watch)).changes] == ["key"]
    await store.close()


async def test_a_watch_that_falls_behind_gets_a_new_snapshot(store: MemoryStore) -> None:
    async with store.watch("") as watch:
        await anext(watch)
        for number in range(MAX_BUFFERED_CHANGES):
            await store.commit(Commit((Put("key", b"%d" % number),)))
        assert store.statistics()["store_revision"] == MAX_BUFFERED_CHANGES
        assert not (await anext(watch)).snapshot, "a full buffer is not an overflow"
        for number in range(2):
            await store.commit(Commit((Put("key", b"more-%d" % number),)))
        batch = await anext(watch)
        assert batch.snapshot
        assert batch.changes == (Change("key", b"more-1", MAX_BUFFERED_CHANGES + 2),)
        await store.commit(Commit((Put("key", b"last"),)))
        assert (await anext(watch)).changes == (Change("key", b"last", MAX_BUFFERED_CHANGES + 3),)


async def test_a_watch_that_nobody_reads_costs_nothing(store: MemoryStore) -> None:
    watch = store.watch("")
    await store.commit(Commit((Put("key", b""),)))
    assert store.statistics()["store_watches"] == 0
    assert (await anext(watch)).snapshot
    assert store.statistics()["store_watches"] == 1
    await watch.aclose()


async def test_commits_of_several_tasks_interleave(store: MemoryStore) -> None:
    """Without a turn of the loop in a commit, tests on this engine would never see a race."""

    async def write_twice(name: str) -> list[int]:
        return [await store.commit(Commit((Put(name, b""),))) for _ in range(2)]

    first, second = await asyncio.gather(write_twice("a"), write_twice("b"))
    assert sorted([*first, *second]) == [1, 2, 3, 4]
    assert first[1] > second[0]
    assert second[1] > first[0]


async def test_closing_leaves_no_timer_behind(clock: ManualClock) -> None:
    store = MemoryStore(clock=clock)
    await store.grant(60)
    timer = store._timer
    assert timer is not None
    await store.close()
    assert timer.cancelled()
    assert store._timer is None
