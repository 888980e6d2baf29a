"""Who waits for whom, and who waits for ever."""

from __future__ import annotations

import asyncio

import pytest
from coordination_place import Place as Nodes
from coordination_place import on, start, until

from coterie.coordination import Lock
from coterie.coordination._machine import Mode, Place, Ticket
from coterie.coordination.observe import Queue, deadlocks, force_release, scan_queues
from coterie.errors import InvalidArgument, NotFound


def queue(name: str, *owners: str, places: int = 1, shared: str = "") -> Queue:
    return Queue(
        "lock",
        name,
        tuple(
            Place(
                f"{name}{n}",
                n + 1,
                Ticket(
                    node="n",
                    owner=owner,
                    task=owner,
                    places=places,
                    mode=Mode.SHARED if owner in shared else Mode.EXCLUSIVE,
                ),
            )
            for n, owner in enumerate(owners)
        ),
    )


@pytest.mark.parametrize(
    ("queues", "circles"),
    [
        ([queue("x", "a", "b"), queue("y", "b", "a")], ["ab"]),
        ([queue("x", "a", "b"), queue("y", "a", "b")], []),
        ([queue("x", "a", "b"), queue("y", "b", "c"), queue("z", "c", "a")], ["abc"]),
        # d waits for the circle, and is no part of it.
        ([queue("x", "a", "b", "d"), queue("y", "b", "a")], ["ab"]),
        # A semaphore with a place that will be free is no trap; one held by the stuck is.
        ([queue("s", "a", "c", "b", places=2), queue("y", "b", "a")], []),
        ([queue("s", "a", "a", "b", places=2), queue("y", "b", "a")], ["ab"]),
        # A waiter is in the way as well as a holder.
        ([queue("x", "a", "b", "c"), queue("y", "c", "b")], ["bc"]),
        # Readers do not wait for readers.
        ([queue("x", "a", "b", shared="ab"), queue("y", "b", "a")], []),
        # Two circles apart.
        (
            [queue("x", "a", "b"), queue("y", "b", "a"), queue("v", "c", "d"), queue("w", "d", "c")],
            ["ab", "cd"],
        ),
    ],
)
def test_circles_are_found_and_nothing_else(queues: list[Queue], circles: list[str]) -> None:
    found = ["".join(sorted(place.ticket.owner for place, _ in each.circle)) for each in deadlocks(queues)]
    assert found == circles


def test_a_deadlock_is_told_in_a_sentence() -> None:
    (found,) = deadlocks([queue("x", "a", "b"), queue("y", "b", "a")])
    assert str(found) == (
        "a on n waits for the lock 'y', held by b on n, which waits for the lock 'x', held by a on n"
    )


async def test_a_real_deadlock_is_seen_and_ends_by_the_deadline(place: Nodes) -> None:
    a, b = place.node("a"), place.node("b")
    both = asyncio.Event()

    async def grab(first: str, second: str) -> None:
        async with Lock(first):
            await both.wait()
            async with Lock(second, wait_s=60):
                pass

    tasks = [
        start(a, lambda: grab("x", "y"), name="first"),
        start(b, lambda: grab("y", "x"), name="second"),
    ]
    await until(lambda: entries(place, 2))
    assert deadlocks(await scan_queues(place.store, "app")) == []
    both.set()

    async def stuck() -> bool:
        return bool(deadlocks(await scan_queues(place.store, "app")))

    await until(stuck)
    (found,) = deadlocks(await scan_queues(place.store, "app"))
    assert "first on a waits for the lock 'y', held by second on b" in str(found)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def entries(place: Nodes, count: int) -> bool:
    return sum(len(each.places) for each in await scan_queues(place.store, "app")) == count


async def test_a_lock_is_taken_away_by_force(place: Nodes) -> None:
    a, b = place.node("a"), place.node("b")
    async with on(a):
        lease = await Lock("x/y").acquire()
    waiting = start(b, Lock("x/y").acquire, name="waiter")
    await until(lambda: "watch" in place.flaky["b"].calls)
    (found,) = await scan_queues(place.store, "app")
    assert (found.kind, found.name, [each.ticket.node for each in found.holders]) == ("lock", "x/y", ["a"])
    assert [each.ticket.task for each in found.ahead(found.places[1])] == [found.places[0].ticket.task]
    (taken,) = await force_release(place.store, "app", "lock", "x/y")
    assert taken.version == lease.token
    next_lease = await waiting
    await asyncio.wait_for(lease.wait_lost(), 10)
    assert "by force" in lease.reason
    await force_release(place.store, "app", "lock", "x/y", next_lease.token)
    await asyncio.wait_for(next_lease.wait_lost(), 10)


async def test_only_what_is_there_can_be_taken(place: Nodes) -> None:
    with pytest.raises(NotFound, match="nobody holds the lock 'x'"):
        await force_release(place.store, "app", "lock", "x")
    with pytest.raises(InvalidArgument, match="a kind is one of"):
        await force_release(place.store, "app", "look", "x")
    async with on(place.node()), Lock("x"):
        with pytest.raises(NotFound, match="there are: lock x"):
            await force_release(place.store, "app", "lock", "y")
        with pytest.raises(NotFound, match="token 99"):
            await force_release(place.store, "app", "lock", "x", 99)
