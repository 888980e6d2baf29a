"""Last writer wins, by clocks that disagree: an acknowledged write vanishes without a trace.

What goes wrong: each client stamps its writes with its own clock, and the store keeps the highest stamp.
After one write by a client whose clock is ahead, everything that others write is older than that, and
is dropped, although it was acknowledged; even what they wrote after they had read it.

Textbook: last writer wins under clock skew (Kingsbury, The trouble with timestamps, 2013).

Repair: a hybrid logical clock. A stamp is never lower than any that the client has seen, so what is
written after a read is newer than what was read (Kulkarni and others, Logical physical clocks, 2014).
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from bug_kit import NoAnswer, ask, judge, me, recorder_of, serve, weather

from coterie.simulation import World


class Cell:
    """A value and its stamp. The object outlives its process."""

    def __init__(self) -> None:
        self.newest: list[Any] = [0.0, "", None]

    async def answer(self, write: Any) -> Any:
        if write is not None and write[:2] > self.newest[:2]:
            self.newest = write
        return self.newest


class WallClock:
    """Stamps of a client; `highest` is for the twin."""

    def __init__(self) -> None:
        self.highest = 0.0

    def stamp(self) -> float:
        return time.time()

    def saw(self, stamp: float) -> None:
        self.highest = max(self.highest, stamp)


class HybridClock(WallClock):
    def stamp(self) -> float:
        return max(time.time(), self.highest + 1e-6)


async def play(world: World, clock_of: type[WallClock]) -> None:
    recorder = recorder_of(world)
    cell = Cell()

    async def edit() -> None:
        clock = clock_of()
        for number in range(15):
            await asyncio.sleep(random.uniform(0.3, 1.5))
            try:
                with recorder.operation(me(), "read") as reading:
                    stamp, _, reading.result = await ask("store", None)
                clock.saw(stamp)
                if number % 2:
                    stamp, value = clock.stamp(), f"{me()}/{number}"
                    clock.saw(stamp)
                    with recorder.operation(me(), "write", value=value):
                        await ask("store", [stamp, me(), value])
            except NoAnswer:
                pass

    await world.start("store", lambda: serve(cell.answer))
    for name in ("a", "b"):
        await world.start(name, edit)
    await weather(world, 15.0)
    judge(recorder, "causal")


async def broken(world: World) -> None:
    await play(world, WallClock)


async def repaired(world: World) -> None:
    await play(world, HybridClock)
