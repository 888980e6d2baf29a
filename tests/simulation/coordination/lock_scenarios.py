"""Hosts that increment a counter under one lock, under faults; and the same with a safeguard taken away.

What must hold, whatever happens:

* no increment is lost: in the order of the Store's revisions the written values only rise;
* tokens only rise with the revisions of the writes made under them, and each belongs to one host;
* nobody believes in a lease after another has got a later one;
* without faults, the lock is taken in the order of asking;
* when the faults are over, everybody gets it again.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coterie import App, CoterieError
from coterie.coordination import Lease, Lock, queueing
from coterie.coordination._machine import Behind, Gone, Held, Tenure
from coterie.ports.store import Check, Commit
from coterie.simulation import Violation, World
from coterie.simulation.nodes import connected
from coterie.simulation.standin import StandIn

HOSTS = ("a", "b", "c")
app = App("locks")
counters = app.map("counters", int)
lock = Lock("counter", wait_s=20.0)


@dataclass
class Book:
    """What happened, by true time."""

    world: World
    writes: list[tuple[int, int, int]] = field(default_factory=list)
    """The revision, the token and the value of each acknowledged write."""
    taken: list[tuple[float, int, str]] = field(default_factory=list)
    """When a lease was had, its token, and whose it is."""
    believed: dict[int, float] = field(default_factory=dict)
    """By token, when its holder looked last and found it not lost."""
    asked: list[tuple[float, str]] = field(default_factory=list)

    def wrote(self, done: asyncio.Task[int], token: int, value: int) -> None:
        if not done.cancelled() and done.exception() is None:
            self.writes.append((done.result(), token, value))

    def judge(self) -> None:
        last_token = last_value = 0
        for revision, token, value in sorted(self.writes):
            _demand(
                value > last_value, f"revision {revision} wrote {value} after {last_value}: a lost update"
            )
            _demand(token >= last_token, f"revision {revision} has token {token} after {last_token}")
            last_token, last_value = token, value
        owners: dict[int, str] = {}
        for _, token, who in self.taken:
            _demand(owners.setdefault(token, who) == who, f"token {token} of {owners[token]} and {who}")
        for time_s, token, who in self.taken:
            for earlier, seen_s in self.believed.items():
                _demand(
                    earlier >= token or seen_s <= time_s,
                    f"{owners[earlier]} believed in {earlier} at {seen_s}, but {who} had {token} at {time_s}",
                )

    def judge_order(self) -> None:
        tokens = [token for _, token, _ in self.taken]
        _demand(tokens == sorted(tokens), "the lock was not taken in the order of the queue")
        served = [who for _, _, who in self.taken]
        _demand(
            served == [who for _, who in self.asked][: len(served)], "it was not taken in the order of asking"
        )


def _demand(condition: bool, sentence: str) -> None:
    if not condition:
        raise Violation(sentence, promise="mutual exclusion")


async def increment(book: Book, *, pause_at: float, longest_s: float) -> None:
    """Read, think, write, all under the lock; sometimes stand still just before the write."""
    name = socket.gethostname()
    me = f"{name}/{os.getpid()}"
    book.asked.append((book.world.time, me))
    async with lock as lease:
        book.taken.append((book.world.time, lease.token, me))
        value = await counters.get("n", 0)
        left_s = random.uniform(0.0, longest_s)
        stands_still_at_s = random.uniform(0.0, left_s) if random.random() < pause_at else -1.0
        while left_s > 0:
            if not lease.lost:
                book.believed[lease.token] = book.world.time
            if left_s - 0.05 < stands_still_at_s <= left_s:
                book.world.pause(name, random.uniform(0.5, 8.0))
            await asyncio.sleep(min(0.05, left_s))
            left_s -= 0.05

        async def write() -> int:
            if random.random() < pause_at:
                book.world.pause(name, random.uniform(0.5, 8.0))
                await asyncio.sleep(0)
            return await counters.put("n", value + 1, fence=lease)

        # In a task of its own, as a thread would be: it does not hear that the body is cancelled.
        writing = asyncio.create_task(write())
        writing.add_done_callback(lambda done: book.wrote(done, lease.token, value + 1))
        await asyncio.shield(writing)


async def work(book: Book, engine: StandIn, pause_at: float) -> None:
    async with connected(engine, app):
        while True:
            try:
                await increment(book, pause_at=pause_at, longest_s=1.0)
            except CoterieError:
                await asyncio.sleep(0.2 * random.random())
            await asyncio.sleep(random.random() * 0.5)


async def under_faults(world: World) -> dict[str, Any]:
    engine = StandIn(world)
    await engine.start()
    book = Book(world)
    for number, name in enumerate(HOSTS):
        await world.start(name, work, book, engine, 0.15)
        world.clock(name, offset_s=random.uniform(-30, 30), drift_ppm=(500, -500, 0)[number])
    async with world.storm(40.0, hosts=[*HOSTS, engine.name]):
        await asyncio.sleep(40.0)
    for name in HOSTS:
        world.revive(name)
    healed_s = world.time
    async with asyncio.timeout(120):
        while not all(
            any(t > healed_s and who.startswith(f"{name}/") for t, _, who in book.taken) for name in HOSTS
        ):
            await asyncio.sleep(0.5)
    world.check_processes()
    book.judge()
    return {"writes": len(book.writes), "taken": len(book.taken)}


async def calm(world: World) -> dict[str, Any]:
    """No faults at all: strictly one after the other, in the order of asking."""
    engine = StandIn(world)
    await engine.start()
    book = Book(world)
    inside = 0

    async def turns(delay_s: float) -> None:
        nonlocal inside
        async with connected(engine, app):
            await asyncio.sleep(1.0)
            for _ in range(6):
                # So far apart that the order of asking is the order in which the Store hears of it.
                await asyncio.sleep(delay_s)
                me = f"{socket.gethostname()}/{os.getpid()}"
                book.asked.append((world.time, me))
                async with lock as lease:
                    inside += 1
                    book.taken.append((world.time, lease.token, me))
                    _demand(inside == 1, "two were inside at once")
                    await asyncio.sleep(0.35)
                    inside -= 1

    for number, name in enumerate(HOSTS):
        await world.start(name, turns, 0.1 + number * 0.07)
    for name in HOSTS:
        await world.wait(name)
    world.check_processes()
    book.judge()
    book.judge_order()
    return {"taken": len(book.taken)}


# One safeguard is taken away by each of these.


def no_fence() -> None:
    """Writes demand nothing."""
    Lease.checks = property(lambda self: ())  # type: ignore[assignment,method-assign]
    Lease.fences = property(lambda self: ())  # type: ignore[assignment,method-assign]


def fence_alone() -> None:
    """A write demands that no later token was seen, but not that its own lease is still there."""
    Lease.checks = property(lambda self: ())  # type: ignore[assignment,method-assign]


def tokens_stand_still() -> None:
    """Each acquisition has the same token."""
    fence_alone()
    before = Lease.__init__

    def begin(self: Lease, name: str, session: Any, key: str, token: int, **others: Any) -> None:
        before(self, name, session, key, 1, **others)

    Lease.__init__ = begin  # type: ignore[method-assign,assignment]


def believes_for_ever() -> None:
    """A holder never doubts its lease by its own clock."""
    Tenure.believed_until = property(lambda self: self.renewed_at + 1e6)  # type: ignore[assignment,method-assign]


def believes_too_long() -> None:
    """A holder believes for two leases instead of one."""
    Tenure.believed_until = property(lambda self: self.renewed_at + 2 * self.ttl_s)  # type: ignore[assignment,method-assign]


def place_not_kept() -> None:
    """Whoever is woken and does not hold queues again, at the end."""
    until_news = queueing.Queues._until_news

    async def once(self: Any, spec: Any, ahead: str | None, mine: str) -> None:
        await until_news(self, spec, ahead, mine)
        key = self.entries(spec) + mine
        await self.store.commit(Commit((), (key,)))
        mutated = await self.sessions.current()
        mutated.detach(key)
        raise TimeoutError

    async def wait_turn(self: Any, session: Any, spec: Any, id_: str, key: str) -> Held | None:
        try:
            return await correct(self, session, spec, id_, key)
        except TimeoutError:
            return None

    correct = queueing.Queues._wait_turn
    queueing.Queues._until_news = once  # type: ignore[method-assign]
    queueing.Queues._wait_turn = wait_turn  # type: ignore[method-assign,assignment]


def two_at_once() -> None:
    """The second in the queue holds as well."""
    correct = queueing.turn

    def turn(queue: Any, mine: str) -> Held | Behind | Gone:
        ordered = sorted(queue, key=lambda place: place.version)
        return Held(0) if mine in {place.id for place in ordered[:2]} else correct(ordered, mine)

    queueing.turn = turn


def tail_unchecked() -> None:
    """The tail is deleted although somebody is behind, so that a newcomer thinks that the lock is free."""

    async def leave_empty(self: Any, spec: Any, lease: Lease) -> bool:
        tail = self._tail(spec)
        await self.store.commit(Commit((), (lease.key, tail), (Check(lease.key, lease.token),)))
        return True

    queueing.Queues._leave_empty = leave_empty  # type: ignore[method-assign]


MUTANTS: dict[str, tuple[Callable[[], None], Callable[[World], Any]]] = {
    mutant.__name__: (mutant, scenario)
    for mutant, scenario in (
        (no_fence, under_faults),
        (fence_alone, under_faults),
        (tokens_stand_still, under_faults),
        (believes_for_ever, under_faults),
        (believes_too_long, under_faults),
        (place_not_kept, calm),
        (two_at_once, calm),
        (tail_unchecked, calm),
    )
}


def mutated(name: str) -> Callable[[World], Any]:
    """Return the scenario that shows a mutant, with that mutant at work."""
    mutate, scenario = MUTANTS[name]

    async def play(world: World) -> Any:
        mutate()
        return await scenario(world)

    return play
