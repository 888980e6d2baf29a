"""A daily job over 10,000 days on nodes that crash; and the same with a safeguard taken away.

The nodes share a Store in one process of virtual time; each has its own binding, as on real machines. They
are killed between ticks, around the moment of a tick, and while a run is under way, and come back later. The
effect of a run is a commit under its fence, so what counts is what the Store accepted.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from coterie.context import CURRENT, Call
from coterie.coordination import (
    Coordination,
    CoordinationConfig,
    Cron,
    Job,
    JobPolicy,
    JobRunner,
    Tick,
    _ticks_machine,
    schedule,
)
from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.ports.store import Commit
from coterie.simulation import Violation, World

DAY_S = 86400.0


class Site:
    """Three nodes, and what their job did: how often each tick was started and had its effect."""

    def __init__(self, policy: JobPolicy) -> None:
        self.store = MemoryStore(clock=SystemClock())
        self.started: Counter[float] = Counter()
        self.attempts: Counter[tuple[float, int]] = Counter()
        self.effects: Counter[float] = Counter()
        self.job = Job("daily", self.work, Cron("0 3 * * *", "Europe/Berlin"), policy)
        self.nodes: dict[str, tuple[asyncio.Task[None], Coordination]] = {}
        self.crashes = 0

    async def work(self, tick: Tick) -> None:
        self.started[tick.due] += 1
        self.attempts[tick.due, tick.attempt] += 1
        await asyncio.sleep(random.choice((0.0, 1.0, 30.0)))
        # The effect, and who has it, in one commit that the Store may refuse.
        await self.store.commit(Commit((), (), tick.checks, tick.fences))
        self.effects[tick.due] += 1

    def start(self, name: str) -> None:
        here = Coordination(
            self.store,
            "app",
            clock=SystemClock(),
            entropy=SystemEntropy(),
            node=name,
            config=CoordinationConfig(lease_s=30.0),
        )

        async def live() -> None:
            CURRENT.set(Call(name, {Coordination: here}))
            await JobRunner(self.job, here, longest_sleep_s=DAY_S).follow()

        self.nodes[name] = (asyncio.create_task(live()), here)

    async def crash(self, name: str) -> None:
        task, here = self.nodes.pop(name)
        await here.close()  # Not a word to the Store: its keys stay until their lease is over.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.crashes += 1


async def days(world: World, count: int, policy: JobPolicy) -> dict[str, Any]:
    site = Site(policy)
    names = ("a", "b", "c")
    for name in names:
        site.start(name)
    await asyncio.sleep(60)
    begun_s = world.time
    for _ in range(count // 10):
        # To some moment around a tick, mostly.
        await asyncio.sleep(random.uniform(0, 20) * DAY_S)
        now = SystemClock().time()
        to_tick_s = site.job.schedule.next_after(now) - now
        await asyncio.sleep(to_tick_s + random.choice((-1.0, 0.0, 0.05, 0.15, 0.5, 10.0)))
        for name in random.sample(names, random.choice((1, 1, 2, 3))):
            if name in site.nodes:
                await site.crash(name)
        await asyncio.sleep(random.choice((0.1, 100.0, 10_000.0)))
        for name in names:
            if name not in site.nodes:
                site.start(name)
    await asyncio.sleep(2 * DAY_S)
    for name in list(site.nodes):
        await site.crash(name)
    lived_days = round((world.time - begun_s) / DAY_S)
    await site.store.close()
    return judge(site, lived_days)


def judge(site: Site, lived_days: int) -> dict[str, Any]:
    ticks = sorted(site.effects)
    twice = [attempt for attempt, times in site.attempts.items() if times != 1]
    _demand(not twice, f"{len(twice)} attempts were made by more than one node, the first at {twice[:1]}")
    doubles = [tick for tick, times in site.effects.items() if times != 1]
    _demand(not doubles, f"{len(doubles)} ticks had their effect more than once, the first at {doubles[:1]}")
    expected, moment = [], ticks[0]
    while moment <= ticks[-1]:
        expected.append(moment)
        moment = site.job.schedule.next_after(moment)
    _demand(
        ticks == expected,
        f"{len(set(expected) - set(ticks))} of {len(expected)} ticks never had their effect",
    )
    _demand(len(expected) >= lived_days - 3, f"{len(expected)} ticks in {lived_days} days")
    return {
        "ticks": len(ticks),
        "days": lived_days,
        "crashes": site.crashes,
        "again": sum(times > 1 for times in site.started.values()),
    }


def _demand(condition: bool, sentence: str) -> None:
    if not condition:
        raise Violation(sentence, promise="every tick exactly once")


async def ten_thousand_days(world: World) -> dict[str, Any]:
    return await days(world, 10_000, JobPolicy(missed="all", overlap="queue", crashed="again"))


async def some_days(world: World) -> dict[str, Any]:
    return await days(world, 300, JobPolicy(missed="all", overlap="queue", crashed="again"))


def unconditional() -> None:
    """The record is written whatever it has become, so several nodes decide one tick."""

    class Blind:
        def __new__(cls, puts: Any = (), deletes: Any = (), checks: Any = (), fences: Any = ()) -> Any:
            return Commit(puts, deletes, (), fences)

    schedule.Commit = Blind  # type: ignore[attr-defined]
    schedule._STAGGER_S = 0.0  # This one is not for safety: it spares the Store the others' attempts.


def crashed_runs_forgotten() -> None:
    """Nobody looks for runs whose node died."""
    decide = _ticks_machine.decide

    def blind(plan: Any, policy: Any, record: Any, alive: Any, **others: Any) -> Any:
        every = set() if record is None else {run.tick for run in record.runs if run.status == "running"}
        return decide(plan, policy, record, every, **others)

    schedule.decide = blind


def unfenced() -> None:
    """A run that lost its lease may still write."""
    Tick.checks = property(lambda self: ())  # type: ignore[assignment,method-assign]
    Tick.fences = property(lambda self: ())  # type: ignore[assignment,method-assign]
    Tick.when_lost = lambda self, callback: None  # type: ignore[method-assign]
    close = Coordination.close

    async def crash(self: Site, name: str) -> None:
        task, here = self.nodes.pop(name)
        await close(here)
        # What it was about to do, it still does: it was only paused.
        asyncio.get_running_loop().call_later(120.0, task.cancel)
        self.crashes += 1

    Site.crash = crash  # type: ignore[method-assign]


def missed_are_forgotten() -> None:
    """Only ticks in time are run."""
    JobPolicy.__post_init__ = lambda self: object.__setattr__(self, "missed", "skip")  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (unconditional, crashed_runs_forgotten, unfenced, missed_are_forgotten)
}


def mutated(name: str) -> Callable[[World], Any]:
    """Return the scenario with a mutant at work."""

    async def play(world: World) -> Any:
        MUTANTS[name]()
        return await some_days(world)

    return play
