"""Locks: one holder, in the order of asking, fenced, lost truthfully, and left behind by nobody."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from coordination_place import LEASE_S, Place, on, start, until

from coterie.coordination import Lease, Lock, ReadWriteLock, Semaphore
from coterie.errors import (
    DeadlineExceeded,
    Fenced,
    InvalidArgument,
    LeaseLost,
    NotRunning,
    Outcome,
    Overloaded,
    Unavailable,
    Unsupported,
)
from coterie.ports.guarantees import Consistency
from coterie.ports.store import Commit, Fence, Put

lock = Lock("x")


async def test_a_free_lock_costs_one_commit_and_giving_it_back_another(place: Place) -> None:
    async with on(place.node()):
        async with lock:
            pass
        flaky = place.flaky["a"]
        flaky.calls.clear()
        async with lock as lease:
            assert isinstance(lease, Lease)
            assert not lease.lost
        assert flaky.calls == ["commit", "commit"]
        assert lease.lost
        assert await place.keys() == []


async def test_tokens_rise_with_each_holder(place: Place) -> None:
    tokens = []
    for name in ("a", "b", "a", "c"):
        async with on(place.node(name)), lock as lease:
            tokens.append(lease.token)
    assert tokens == sorted(set(tokens))


async def test_many_nodes_take_turns_in_the_order_of_asking(place: Place) -> None:
    order: list[int] = []
    inside = 0

    async def work(number: int) -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            order.append(number)
            await asyncio.sleep(0.001)
            inside -= 1

    calls = [place.node(name) for name in "abcd"]
    tasks = []
    async with on(calls[0]), lock:
        for number in range(12):
            tasks.append(start(calls[number % 4], lambda number=number: work(number)))
            await until(lambda number=number: entries(place, number + 2))
    await asyncio.gather(*tasks)
    assert order == list(range(12))


async def entries(place: Place, count: int) -> bool:
    return len(await place.keys("app/lock/lock/x/q/")) == count


async def test_a_newcomer_does_not_overtake_who_waits(place: Place) -> None:
    a, b = place.node("a"), place.node("b")
    order = []

    async def take(name: str) -> None:
        async with lock:
            order.append(name)

    async with on(a), lock:
        first = start(b, lambda: take("waited"))
        await until(lambda: entries(place, 2))
    # The holder is gone; whoever comes now finds the waiter before it.
    second = start(a, lambda: take("came later"))
    await asyncio.gather(first, second)
    assert order == ["waited", "came later"]


async def test_waiters_watch_and_do_not_poll(place: Place) -> None:
    a, b = place.node("a", lease_s=60.0), place.node("b", lease_s=60.0)
    async with on(a), lock:
        waiting = start(b, lock.acquire)
        await until(lambda: "watch" in place.flaky["b"].calls)
        place.flaky["b"].calls.clear()
        await asyncio.sleep(0.1)
        assert place.flaky["b"].calls == []
    await waiting
    assert place.flaky["b"].calls == ["scan"]


async def test_a_release_wakes_one_waiter_only(place: Place) -> None:
    calls = [place.node(name, lease_s=60.0) for name in "abcde"]
    async with on(calls[0]):
        lease = await lock.acquire()
        waiting = []
        for number, call in enumerate(calls[1:]):
            waiting.append(start(call, lock.acquire))
            await until(lambda number=number: entries(place, number + 2))
        await until(lambda: all("watch" in place.flaky[name].calls for name in "bcde"))
        for flaky in place.flaky.values():
            flaky.calls.clear()
        await lock.release(lease)
        await waiting[0]
        assert [name for name, flaky in place.flaky.items() if flaky.calls] == ["a", "b"]
    for task in waiting[1:]:
        task.cancel()
    await asyncio.gather(*waiting[1:], return_exceptions=True)


async def test_who_holds_a_lock_cannot_wait_for_it(place: Place) -> None:
    async with on(place.node()):
        async with lock:
            with pytest.raises(InvalidArgument, match="wait for itself"):
                async with lock:
                    pass
        async with lock:
            pass
        both = ReadWriteLock("both")
        async with both.read:
            with pytest.raises(InvalidArgument, match="wait for itself"):
                async with both.write:
                    pass


async def test_waits_are_bounded_and_leave_nothing_behind(place: Place) -> None:
    call = place.node()
    async with on(call):
        async with lock:
            other = start(place.node("b"), Lock("x", wait_s=0.05).acquire)
            with pytest.raises(DeadlineExceeded, match="lock 'x' was not free in time") as caught:
                await other
            assert caught.value.outcome is Outcome.NOT_APPLIED
            await until(lambda: entries(place, 1))
            call.deadline = asyncio.get_running_loop().time() + 0.05
            with pytest.raises(DeadlineExceeded):
                await start(call, lock.acquire)
            call.deadline = None
            given_up = start(place.node("c"), lock.acquire)
            await until(lambda: entries(place, 2))
            given_up.cancel()
            await until(lambda: entries(place, 1))
        async with lock:
            pass


async def test_only_so_many_may_wait(place: Place) -> None:
    call = place.node(most_waiting=2)
    async with on(call), lock:
        waiting = start(call, lock.acquire)
        await until(lambda: entries(place, 2))
        with pytest.raises(Overloaded, match="more than 2"):
            await start(call, lock.acquire)
        waiting.cancel()


async def test_who_waits_is_not_turned_away_for_those_who_come_after_it(place: Place) -> None:
    a, b = place.node("a", most_waiting=2, lease_s=60.0), place.node("b", most_waiting=2, lease_s=60.0)
    async with on(a):
        lease = await lock.acquire()
        waiting = start(b, lock.acquire)
        await until(lambda: "watch" in place.flaky["b"].calls)
        first = (await place.store.scan("app/lock/lock/x/q/")).entries[0]
        for number in range(3):  # They have entered, and were not turned away yet.
            await place.store.commit(Commit((Put(f"app/lock/lock/x/q/late-{number}", first.value),)))
        await lock.release(lease)
        assert not (await waiting).lost


async def test_a_dead_holder_is_followed_when_its_lease_ends(place: Place) -> None:
    a, b = place.node("a"), place.node("b")
    async with on(a) as binding:
        dead = await lock.acquire()
        await binding.close()
    assert dead.lost
    async with on(b), lock as lease:
        assert lease.token > dead.token
    async with on(b), lock:
        pass  # The tail that the dead one left is gone again.
    assert await place.keys() == []


async def test_a_leaving_node_gives_back_at_once(place: Place) -> None:
    a = place.node("a", lease_s=60.0)
    async with on(a) as binding:
        lease = await lock.acquire()
        await binding.release()
        assert lease.lost
        with pytest.raises(NotRunning, match="leaving"):
            await lock.acquire()
    async with on(place.node("b")), lock:
        pass


async def test_the_body_is_cancelled_when_the_lease_is_lost(place: Place) -> None:
    async def body() -> None:
        async with lock:
            place.flaky["a"].cut = True
            await asyncio.sleep(60)

    async with on(place.node()):
        with pytest.raises(LeaseLost, match="could not be renewed in time") as caught:
            await body()
        assert caught.value.outcome is Outcome.UNKNOWN
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        place.flaky["a"].cut = False
        async with lock:
            pass


async def test_a_cancellation_by_somebody_else_stays_one(place: Place) -> None:
    async def body() -> None:
        async with lock:
            await asyncio.sleep(60)

    task = start(place.node(), body)
    await until(lambda: entries(place, 1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await place.keys() == []


async def test_a_cancellation_by_somebody_else_stays_one_when_the_lease_is_lost_at_the_end(
    place: Place,
) -> None:
    async def body() -> None:
        async with lock as lease:
            lease.session.lose("it was lost")
            task.cancel()

    task = start(place.node(), body)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_body_that_does_not_wait_hears_of_the_loss_at_its_end(place: Place) -> None:
    async def body() -> None:
        async with lock as lease:
            place.clocks["a"].ahead_s += 2 * LEASE_S  # As if the process had stood still.
            assert lease.lost

    async with on(place.node()):
        with pytest.raises(LeaseLost):
            await body()


async def test_a_lease_is_kept_for_as_long_as_the_body_runs(place: Place) -> None:
    async with on(place.node()), lock as lease:
        await asyncio.sleep(2.5 * LEASE_S)
        assert not lease.lost
        await place.numbers.put("key", 1, fence=lease)


async def test_a_lock_that_was_taken_away_by_force_is_noticed(place: Place) -> None:
    async def body() -> None:
        async with lock:
            (key,) = await place.keys("app/lock/lock/x/q/")
            await place.store.commit(Commit((), (key,)))
            await asyncio.sleep(60)

    async with on(place.node()):
        with pytest.raises(LeaseLost, match="by force"):
            await body()
        async with lock:
            waiting = start(place.node("b"), lock.acquire)
            await until(lambda: entries(place, 2))
            last = max((await place.store.scan("app/lock/lock/x/q/")).entries, key=lambda each: each.version)
            await place.store.commit(Commit((), (last.key,)))
        # It is behind nobody now, and not in the queue: it must not believe that it is first.
        with pytest.raises(LeaseLost, match="place in the queue"):
            await waiting


async def test_writes_of_a_former_holder_are_refused(place: Place) -> None:
    a, b = place.node("a"), place.node("b")
    async with on(a):
        stale = await lock.acquire()
        await place.numbers.put("key", 1, fence=stale)
        await lock.release(stale)
        with pytest.raises(Fenced, match="does not hold it any more"):
            await place.numbers.put("key", 2, fence=stale)
    async with on(b), lock as lease:
        # The later holder has read, and not yet written: the former one must not get in between.
        seen = await place.numbers.get("key")
        for write in (
            lambda: place.numbers.put("key", 9, fence=stale),
            lambda: place.numbers.put("key", 9, expect=1, fence=stale),
            lambda: place.numbers.delete("key", fence=stale),
            lambda: place.numbers.update("key", lambda _: 9, fence=stale),
        ):
            with pytest.raises(Fenced):
                await write()
        assert await place.numbers.get("key") == seen
        await place.numbers.put("key", 3, fence=lease)
        # A token that has travelled is judged by the fence alone.
        (fence,) = lease.fences
        with pytest.raises(Fenced, match="seen token"):
            await place.numbers.put("key", 9, fence=Fence(fence.name, stale.token))
        await place.numbers.put("key", 4, fence=Fence(fence.name, lease.token))


async def test_a_lost_answer_leaves_no_ghost_in_the_queue(place: Place) -> None:
    async with on(place.node()):
        place.flaky["a"].mute = True
        with pytest.raises(Unavailable, match="no answer"):
            await lock.acquire()
        place.flaky["a"].mute = False
        async with lock:
            pass
        await until(lambda: entries(place, 0))


async def test_a_commit_that_arrives_late_takes_no_lock(place: Place) -> None:
    async with on(place.node(lease_s=60.0)):
        await (flaky := place.flaky["a"]).store.get("warm")
        async with lock:
            pass
        flaky.delay = True
        with pytest.raises(Unavailable, match="no answer"):
            await lock.acquire()
        flaky.delay = False
        await until(lambda: "revoke" in flaky.calls)
        with pytest.raises(LeaseLost):
            await place.store.commit(flaky.late[0])
        async with lock:
            pass


async def test_a_commit_that_arrives_late_blocks_nobody_though_its_lease_is_needed(place: Place) -> None:
    async with on(place.node()), Lock("y"):
        flaky = place.flaky["a"]
        flaky.delay = True
        with pytest.raises(Unavailable, match="no answer"):
            await lock.acquire()
        flaky.delay = False
        flaky.calls.clear()
        await until(lambda: "get" in flaky.calls)  # It is looked for, and not there yet.
        await place.store.commit(flaky.late[0])
        async with on(place.node("b")), lock:
            pass


async def test_a_lease_that_is_granted_while_the_node_leaves_is_given_back(place: Place) -> None:
    granting, granted = asyncio.Event(), asyncio.Event()
    grant = place.store.grant

    async def slow(ttl_s: float) -> int:
        granting.set()
        await granted.wait()
        return await grant(ttl_s)

    place.store.grant = slow  # type: ignore[method-assign]
    async with on(call := place.node(lease_s=60.0)) as binding:
        taking = start(call, lock.acquire)
        await granting.wait()
        await binding.release()
        granted.set()
        with pytest.raises(NotRunning, match="leaving"):
            await taking
        assert place.flaky["a"].calls == ["grant", "revoke"]


async def test_a_release_without_an_answer_is_done_later(place: Place) -> None:
    async with on(place.node()):
        lease = await lock.acquire()
        place.flaky["a"].cut = True
        await lock.release(lease)
        place.flaky["a"].cut = False
        async with on(place.node("b")), lock:
            pass


async def test_readers_share_and_writers_do_not(place: Place) -> None:
    both = ReadWriteLock("both")
    a, b = place.node("a"), place.node("b")
    async with on(a):
        async with both.read as reading:
            async with on(b):
                other = await start(b, both.read.acquire)
                writing = start(b, both.write.acquire)
                await until(lambda: rw_entries(place, 3))
                late = start(a, both.read.acquire)
                await until(lambda: rw_entries(place, 4))
            assert reading.fences == ()
            assert not writing.done()
        await both.read.release(other)
        write = await writing
        assert not late.done()
        assert write.fences
        await both.write.release(write)
        await both.read.release(await late)
    assert await place.keys() == []


async def rw_entries(place: Place, count: int) -> bool:
    return len(await place.keys("app/lock/rwlock/both/q/")) == count


@pytest.mark.parametrize("places", [1, 3])
async def test_a_semaphore_lets_so_many_in(place: Place, places: int) -> None:
    gate = Semaphore("gate", places)
    inside, most, served = 0, 0, 0

    async def work() -> None:
        nonlocal inside, most, served
        async with gate:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.002)
            inside -= 1
            served += 1

    calls = [place.node(name) for name in "abc"]
    await asyncio.gather(*(start(call, work) for call in calls for _ in range(8)))
    assert (most, served) == (places, 24)
    assert await place.keys() == []


async def test_a_semaphore_of_another_size_is_an_error(place: Place) -> None:
    async with on(place.node()), Semaphore("gate", 3):
        with pytest.raises(InvalidArgument, match="2 places here, but 3 at a"):
            await start(place.node("b"), Semaphore("gate", 2).acquire)


async def test_names_do_not_touch_each_other(place: Place) -> None:
    async with (
        on(place.node()),
        Lock("a"),
        Lock("a/q/x"),
        Lock("a%2Fq"),
        Lock("a/q"),
        ReadWriteLock("a").write,
    ):
        pass


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", 7])
def test_names_that_cannot_be_keys_are_refused(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="the name of a lock"):
        Lock(name)


def test_sizes_that_make_no_sense_are_refused() -> None:
    for places in (0, 501, 1.5):
        with pytest.raises(InvalidArgument, match="places"):
            Semaphore("gate", places)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="wait_s"):
        Lock("x", wait_s=-1)


async def test_outside_of_a_node_there_is_nothing_to_hold() -> None:
    with pytest.raises(NotRunning):
        await lock.acquire()


async def test_an_engine_that_is_no_ground_for_locks_is_refused(place: Place) -> None:
    call = place.node()
    for weak in ({"consistency": Consistency.SEQUENTIAL}, {"multi_key_commit": False}):
        place.flaky["a"].guarantees = dataclasses.replace(place.store.guarantees, **weak)
        async with on(call):
            with pytest.raises(Unsupported, match="linearizable commits of several keys"):
                await lock.acquire()
