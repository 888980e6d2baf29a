"""Nodes with an `@app.leader`, killed, paused and cut off; and the same with a safeguard taken away.

What must hold, whatever happens:

* each term has a token of its own, and they rise from term to term;
* a leader that looks at `lease.lost` does not act once a later one has begun;
* one that does not look is cancelled: it acts once more at most, right after a pause of its process;
* in the order of the Store's revisions the writes of leaders have tokens that do not fall, and values that
  rise, also those of a leader that stood still in the middle of a write;
* when a leader dies or hangs, another leads within its lease and a fifth;
* without faults candidates lead in the order in which they came;
* a leader whose function has returned keeps the office, and the function runs again only when it is gone;
* when the faults are over there is a leader.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import leader_mutants

from coterie import App
from coterie.context import current
from coterie.coordination import Election, Lease
from coterie.simulation import Violation, World
from coterie.simulation.nodes import connected, run_node
from coterie.simulation.standin import StandIn

NODES = ("a", "b", "c")
LEASE_S = 3.0
ACT_S = 0.05


@dataclass
class Book:
    """What happened, by true time."""

    world: World
    terms: list[tuple[float, int, str]] = field(default_factory=list)
    """When a term began, its token, and the node that leads."""
    acts: list[tuple[float, int]] = field(default_factory=list)
    """When a leader acted that had looked whether its lease is lost, and its token."""
    blind: list[tuple[float, int]] = field(default_factory=list)
    """The same of one that does not look."""
    writes: list[tuple[int, int, int]] = field(default_factory=list)
    """The revision, the token and the value of each acknowledged write."""

    def wrote(self, done: asyncio.Task[int], token: int, value: int) -> None:
        if not done.cancelled() and done.exception() is None:
            self.writes.append((done.result(), token, value))

    def judge(self) -> None:
        tokens = [token for _, token, _ in self.terms]
        _demand(tokens == sorted(set(tokens)), f"the tokens of the leaders are {tokens}")
        begun = {token: time_s for time_s, token, _ in self.terms}
        ended = {token: begun[later] for token, later in pairwise(tokens)}
        for time_s, token in self.acts:
            over_s = ended.get(token, time_s)
            _demand(time_s <= over_s, f"{token} acted at {time_s}, when another led since {over_s}")
        for token, over_s in ended.items():
            late = [time_s for time_s, acting in self.blind if acting == token and time_s > over_s]
            _demand(len(late) <= 1, f"{token} was not cancelled: it acted at {late}, but was over {over_s}")
        last_token = last_value = 0
        for revision, token, value in sorted(self.writes):
            _demand(token >= last_token, f"revision {revision} has token {token} after {last_token}")
            _demand(value > last_value, f"revision {revision} wrote {value} after {last_value}")
            last_token, last_value = token, value


def _demand(condition: bool, sentence: str) -> None:
    if not condition:
        raise Violation(sentence, promise="one leader")


def an_app(book: Book, *, pause_at: float = 0.0) -> App:
    """Return an app whose leader acts every 50 ms, and writes; `pause_at` of its writes stand still."""
    app = App("led")
    counters = app.map("counters", int)

    @app.leader("boss")
    async def lead(lease: Lease) -> None:
        book.terms.append((book.world.time, lease.token, current().node))
        # One that writes learns from the Store that it is cut off; the other has its lease only.
        writes = random.random() < 0.5
        while True:
            book.blind.append((book.world.time, lease.token))
            if not lease.lost:
                book.acts.append((book.world.time, lease.token))
            if writes and random.random() < 0.2:
                value = 1 + await counters.get("n", 0)
                # In a task of its own, as a thread would be: it does not hear that the leader is cancelled.
                writing = asyncio.create_task(write(lease, value))
                writing.add_done_callback(lambda done, value=value: book.wrote(done, lease.token, value))
                # A write of unknown outcome ends the term, and with it the right of a straggler.
                await asyncio.shield(writing)
            await asyncio.sleep(ACT_S)

    async def write(lease: Lease, value: int) -> int:
        if random.random() < pause_at:
            book.world.pause(socket.gethostname(), random.uniform(0.5, 8.0))
            await asyncio.sleep(0)
        return await counters.put("n", value, fence=lease)

    return app


async def failover(world: World) -> dict[str, Any]:
    """Kill or pause the leader again and again, with nothing else amiss; return how long there was none."""
    book = Book(world)
    engine = StandIn(world)
    await engine.start()
    app = an_app(book)
    for number, name in enumerate(NODES):
        await world.start(name, run_node, engine, app)
        world.clock(name, offset_s=random.uniform(-60, 60), drift_ppm=(500, -500, 0)[number])
    await _until(lambda: book.terms)
    gaps_s = []
    for _ in range(8):
        await asyncio.sleep(random.uniform(1.0, 6.0))
        known, (_, _, leader) = len(book.terms), book.terms[-1]
        gone_s = world.time
        if random.random() < 0.5:
            world.kill(leader)
        else:
            world.pause(leader, 3 * LEASE_S)
        await _until(lambda known=known: len(book.terms) > known)
        gaps_s.append(book.terms[known][0] - gone_s)
        await asyncio.sleep(3 * LEASE_S)
        world.revive(leader)
    world.check_processes()
    book.judge()
    worst_s = max(gaps_s)
    if worst_s > 1.2 * LEASE_S:
        raise Violation(f"there was no leader for {worst_s:.2f} s", promise="a new leader within lease + 20%")
    return {"worst_s": worst_s, "terms": len(book.terms)}


async def under_faults(world: World) -> dict[str, Any]:
    """Every kind of fault, and leaders that stand still in the middle of a write; afterwards there is one."""
    book = Book(world)
    engine = StandIn(world)
    await engine.start()
    app = an_app(book, pause_at=0.1)
    for number, name in enumerate(NODES):
        await world.start(name, run_node, engine, app)
        world.clock(name, offset_s=random.uniform(-30, 30), drift_ppm=(500, -500, 0)[number])
    async with world.storm(40.0, hosts=[*NODES, engine.name]):
        await asyncio.sleep(40.0)
    for name in NODES:
        world.revive(name)
    healed_s = world.time
    await _until(lambda: book.acts and book.acts[-1][0] > healed_s + 1.0)
    world.check_processes()
    book.judge()
    return {"terms": len(book.terms), "acts": len(book.acts), "writes": len(book.writes)}


async def in_turn(world: World) -> dict[str, Any]:
    """No faults: who comes first leads first, and each leads until it has had enough."""
    book = Book(world)
    engine = StandIn(world)
    await engine.start()
    asked: list[str] = []
    served: list[str] = []

    async def campaign(delay_s: float) -> None:
        async with connected(engine, App("led")):
            await asyncio.sleep(1.0)
            for _ in range(6):
                # So far apart that the order of asking is the order in which the Store hears of it.
                await asyncio.sleep(delay_s)
                me = f"{socket.gethostname()}/{os.getpid()}"
                asked.append(me)
                async with Election("boss") as lease:
                    served.append(me)
                    book.terms.append((world.time, lease.token, me))
                    for _ in range(7):
                        book.blind.append((world.time, lease.token))
                        book.acts.append((world.time, lease.token))
                        await asyncio.sleep(ACT_S)

    for number, name in enumerate(NODES):
        await world.start(name, campaign, 0.1 + number * 0.07)
    for name in NODES:
        await world.wait(name)
    world.check_processes()
    book.judge()
    _demand(served == asked, f"they came as {asked} and led as {served}")
    return {"terms": len(book.terms)}


async def done_once(world: World) -> dict[str, Any]:
    """A leader has one thing to do, and does it; when its node dies the next leader does it again."""
    book = Book(world)
    engine = StandIn(world)
    await engine.start()
    app = App("led")

    @app.leader("boss")
    async def lead(lease: Lease) -> None:
        book.terms.append((world.time, lease.token, current().node))

    for name in NODES:
        await world.start(name, run_node, engine, app)
    for count in (1, 2):
        await _until(lambda count=count: len(book.terms) >= count)
        await asyncio.sleep(5 * LEASE_S)
        _demand(len(book.terms) == count, f"after {count} leaders it was done {len(book.terms)} times")
        world.kill(book.terms[-1][2])
    world.check_processes()
    book.judge()
    return {"terms": len(book.terms)}


async def _until(condition: Callable[[], Any]) -> None:
    try:
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise Violation("for two minutes nobody led", promise="there is a leader") from None


SCENARIOS: dict[str, Callable[[World], Any]] = {
    scenario.__name__: scenario for scenario in (failover, under_faults, in_turn, done_once)
}


def mutated(name: str) -> Callable[[World], Any]:
    """Return the scenario that shows a mutant, with that mutant at work."""
    mutate, scenario = leader_mutants.MUTANTS[name]

    async def play(world: World) -> Any:
        mutate()
        return await SCENARIOS[scenario](world)

    return play
