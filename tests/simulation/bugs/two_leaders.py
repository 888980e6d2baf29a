"""Two leaders: a candidate whose clock is fast takes over a lease that has not ended.

What goes wrong: the lease says in wall-clock time until when it lasts, and each candidate compares that
with its own clock. Clocks disagree by as much as they like: a virtual machine was suspended, a time
server was wrong, an administrator has set the date.

Textbook: split brain by clock skew (Gray and Cheriton, Leases, 1989, say what leases assume of clocks).

Repair: durations instead of moments, each measured by one clock. The store ends a lease by its own, and the
leader, by its own monotonic one, stops a little earlier, counting from before it asked.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from bug_kit import NoAnswer, ask, judge, me, recorder_of, serve, weather

from coterie.simulation import World

LEASE_S = 2.0
BELIEF_S = 0.9 * LEASE_S
"""How long a leader believes in its lease; clocks run equally fast, but for a small drift."""


class Store:
    """Keeps who leads and until when. The object outlives its process."""

    def __init__(self) -> None:
        self.leader = ""
        self.until_s = 0.0

    def now(self, candidate_s: float) -> float:
        return candidate_s

    async def answer(self, request: Any) -> Any:
        candidate, candidate_s = request
        now = self.now(candidate_s)
        if self.leader != candidate and now < self.until_s:
            return False
        self.leader, self.until_s = candidate, now + LEASE_S
        return True


class StoreWithClock(Store):
    def now(self, candidate_s: float) -> float:
        return time.monotonic()


async def play(world: World, store: Store) -> None:
    recorder = recorder_of(world)

    async def claim() -> float:
        """Return until when this process leads; raise `NoAnswer` when it does not or may not."""
        asked_s = time.monotonic()
        if not await ask("store", [me(), time.time()], timeout_s=0.5):
            raise NoAnswer("somebody else leads")
        return asked_s + BELIEF_S

    async def lead(until_s: float) -> None:
        while time.monotonic() < until_s:
            recorder.invoke(me(), "write")  # What only the leader may do.
            recorder.ok(me())
            with suppress(NoAnswer):  # There may be time for another attempt.
                until_s = await claim()
            await asyncio.sleep(0.2)

    async def run_for_office() -> None:
        while True:
            try:
                with recorder.operation(me(), "acquire"):
                    until_s = await claim()
            except NoAnswer:
                await asyncio.sleep(0.5)
                continue
            await lead(until_s)
            recorder.invoke(me(), "lost")
            recorder.ok(me())

    await world.start("store", lambda: serve(store.answer))
    for name in ("a", "b"):
        await world.start(name, run_for_office)
    await weather(world, 15.0)
    judge(recorder, "mutex", mode="lease")


async def broken(world: World) -> None:
    await play(world, Store())


async def repaired(world: World) -> None:
    await play(world, StoreWithClock())
