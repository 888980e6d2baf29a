"""A retry storm that stays when its cause is gone, and the policies under which there is none. Simulated.

    python examples/retry_storm.py                     what came of it, as a table
    python examples/retry_storm.py --svg storm.svg     the same as a plot

Three nodes ask a database of their own. It answers one query after the other and does not hear that a
caller has left, as is usual. Callers ask for two thirds of what the three can do, give an attempt half a
second, and make up to four. Then, for five seconds, the databases need ten times as long.

Without bounds each call becomes four, and every answer comes too late, so that all are asked for again:
the system stays down after the cause is gone (Bronson et al., "Metastable Failures in Distributed Systems",
HotOS 2021). The default budget of repeats takes that away, and a limit of the service the wait.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from coterie import App, CoterieError, Policy, Retry, idempotent
from coterie.resilience import AdaptiveLimitConfig, BreakerConfig, RetryBudgetConfig
from coterie.simulation import World, run
from coterie.simulation.nodes import connected, run_node
from coterie.simulation.standin import StandIn

__all__ = ["CAUSE_S", "OFFERED_PER_S", "PROTECTED", "UNPROTECTED", "Protection", "recovered_after_s", "storm"]

NODES = ("a", "b", "c")
QUERY_S = 0.0125
"""Eighty queries a second and node."""
OFFERED_PER_S = 160
CAUSE_S = (10.0, 15.0)
SLOWER = 10
LAST_S = 40.0
START_S = 5.0
"""By then everybody knows everybody."""


@dataclass(frozen=True, kw_only=True)
class Protection:
    """What is switched on."""

    budget: bool
    shedding: bool

    def policy(self) -> Policy:
        """Return what the callers call under: the default, or repeats without bounds."""
        endless = RetryBudgetConfig(ratio=10, floor_per_s=1e6, burst=1e6)
        return Policy(
            timeout_s=2.0,
            attempt_timeout_s=0.5,
            retry=Retry(attempts=4, budget=RetryBudgetConfig() if self.budget else endless),
            breaker=BreakerConfig() if self.shedding else None,
        )

    def limit(self) -> AdaptiveLimitConfig | None:
        """Return how much a node takes at once, learned from latency, or None for all."""
        return AdaptiveLimitConfig(initial=16) if self.shedding else None


PROTECTED = Protection(budget=True, shedding=True)
UNPROTECTED = Protection(budget=False, shedding=False)


VARIANTS = {
    "neither": (UNPROTECTED, "#c0392b"),
    "budget of repeats": (Protection(budget=True, shedding=False), "#d68910"),
    "limit of the service": (Protection(budget=False, shedding=True), "#2471a3"),
    "both": (PROTECTED, "#1e8449"),
}


class Database:
    """Answers one query after the other, also those that nobody waits for any longer."""

    def __init__(self) -> None:
        self._queries: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def query(self) -> None:
        answer = asyncio.get_running_loop().create_future()
        self._queries.put_nowait(answer)
        await answer

    async def work(self, course: Course) -> None:
        while True:
            answer = await self._queries.get()
            course.queries += 1
            await asyncio.sleep(QUERY_S * course.slower)
            if not answer.done():
                answer.set_result(None)


@dataclass
class Course:
    """What happens: calls, and how many were answered, by the second in which they were made."""

    good: list[int] = field(default_factory=lambda: [0] * int(LAST_S))
    offered: list[int] = field(default_factory=lambda: [0] * int(LAST_S))
    queries: int = 0
    slower: float = 1.0

    @property
    def goodput(self) -> list[float]:
        """For each second, the part of its calls that were answered."""
        return [good / max(offered, 1) for good, offered in zip(self.good, self.offered, strict=True)]


def an_app(course: Course, protection: Protection) -> App:
    app = App("prices", policy=protection.policy())

    @app.service(limit=protection.limit())
    class Prices:
        async def __aenter__(self) -> None:
            self.database = Database()
            self.working = asyncio.create_task(self.database.work(course))

        async def __aexit__(self, *_: object) -> None:
            self.working.cancel()

        @idempotent(by_nature=True)
        async def price(self) -> None:
            await self.database.query()

    return app


async def callers(engine: StandIn, app: App, course: Course) -> None:
    """Call at a steady rate by chance (Poisson), whether or not earlier calls were answered."""
    prices = app.client(app.services["Prices"].cls)
    loop = asyncio.get_running_loop()

    async def call(second: int) -> None:
        course.offered[second] += 1
        with suppress(CoterieError):
            await prices.price()
            course.good[second] += 1

    async with connected(engine, app), asyncio.TaskGroup() as calls:
        await asyncio.sleep(max(START_S - loop.time(), 0.0))
        while (elapsed_s := loop.time() - START_S) < LAST_S:
            calls.create_task(call(int(elapsed_s)))
            await asyncio.sleep(random.expovariate(OFFERED_PER_S))


def storm(protection: Protection, *, seed: int = 1) -> Course:
    """Play the whole course in virtual time and return what happened."""
    course = Course()
    app = an_app(course, protection)

    async def main(world: World) -> None:
        engine = StandIn(world)
        await engine.start()
        for name in NODES:
            await world.start(name, run_node, engine, app)
        await world.start("callers", callers, engine, app, course)
        begin, end = CAUSE_S
        await asyncio.sleep(START_S + begin - world.time)
        course.slower = SLOWER
        await asyncio.sleep(end - begin)
        course.slower = 1.0
        await world.wait("callers")
        world.check_processes()

    run(main, seed=seed)
    return course


def recovered_after_s(course: Course, *, share: float = 0.95) -> float | None:
    """Return how long after its cause was gone it was over for good, or None if it was not."""
    bad = [second for second, part in enumerate(course.goodput) if second >= CAUSE_S[1] and part < share]
    last = bad[-1] + 1 if bad else CAUSE_S[1]
    return None if last >= LAST_S else last - CAUSE_S[1]


def table(courses: Mapping[str, Course]) -> str:
    """Return what came of each variant, by one line."""
    lines = ["switched on           queries  answered, last 10 s  recovered after"]
    for name, course in courses.items():
        after_s = recovered_after_s(course)
        last = sum(course.good[-10:]) / sum(course.offered[-10:])
        shown = "not at all" if after_s is None else f"{after_s:.0f} s"
        lines.append(f"{name:<21} {course.queries:>7}  {last:>19.0%}  {shown}")
    return "\n".join(lines)


def plot(courses: Mapping[str, Course]) -> str:
    """Return an SVG of the part of the calls that were answered, by the second of their call."""
    width, height, left, top = 640.0, 220.0, 48.0, 24.0

    def point(second: float, part: float) -> str:
        return f"{left + width * second / LAST_S:.1f},{top + height * (1 - part):.1f}"

    begin, end = (left + width * second / LAST_S for second in CAUSE_S)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 316" style="font: 12px sans-serif">',
        "<title>Calls that are answered, before, during and after five slow seconds</title>",
        '<rect width="720" height="316" fill="#ffffff"/>',
        f'<rect x="{begin:.1f}" y="{top}" width="{end - begin:.1f}" height="{height}" fill="#eeeeee"/>',
        f'<text x="{(begin + end) / 2:.1f}" y="16" text-anchor="middle">the databases are slow</text>',
    ]
    for percent in (0, 50, 100):
        y = top + height * (1 - percent / 100)
        parts.append(f'<path d="M{left} {y:.1f}h{width}" stroke="#cccccc"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    for second in range(0, int(LAST_S) + 1, 10):
        x = left + width * second / LAST_S
        parts.append(f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{second} s</text>')
    for number, (name, course) in enumerate(courses.items()):
        color = VARIANTS[name][1]
        line = " ".join(point(second + 0.5, part) for second, part in enumerate(course.goodput))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        x = left + number * 160
        parts.append(f'<path d="M{x} 290h20" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 26}" y="294">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Play all variants, print what came of them, and write the plot if asked to."""
    parser = argparse.ArgumentParser(description="A retry storm, and the policies under which there is none.")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the plot there")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    courses = {name: storm(protection, seed=given.seed) for name, (protection, _) in VARIANTS.items()}
    print(table(courses))
    if given.svg is not None:
        given.svg.write_text(plot(courses), encoding="utf-8")


if __name__ == "__main__":
    main()
