"""Stale replica: a client writes to the primary, reads from a replica, and does not see its own write.

What goes wrong: the replica follows the primary with a delay, which nobody notices until a link or a
host is slow. A user changes a setting, loads the page again, and finds the old one.

Textbook: read your writes, a session guarantee (Terry and others, Session guarantees for weakly
consistent replicated data, 1994).

Repair: the session remembers the version of its newest write, or of anything newer that it has read. A
replica that is not there yet says so, and the client asks the primary.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from bug_kit import NoAnswer, ask, judge, me, recorder_of, serve, weather

from coterie.simulation import World


class Replica:
    """Versions and values; the primary's are on a disk, so that the object outlives its process."""

    def __init__(self) -> None:
        self.version, self.value = 0, ""

    async def answer(self, request: Any) -> Any:
        if request["do"] == "write":
            self.version, self.value = self.version + 1, request["value"]
        elif self.version < request["at least"]:
            return None
        return self.version, self.value


async def play(world: World, *, remember: bool) -> None:
    recorder = recorder_of(world)
    primary, replica = Replica(), Replica()

    async def follow() -> None:
        while True:
            try:
                found = await ask("primary", {"do": "read", "at least": 0})
                replica.version, replica.value = found
            except NoAnswer:
                pass
            await asyncio.sleep(0.2)

    async def serve_replica() -> None:
        await asyncio.gather(serve(replica.answer), follow())

    async def write(value: str) -> int:
        with recorder.operation(me(), "write", value=value):
            version, _ = await ask("primary", {"do": "write", "value": value})
        return int(version)

    async def read(at_least: int) -> int:
        request = {"do": "read", "at least": at_least}
        with recorder.operation(me(), "read") as reading:
            found = await ask("replica", request) or await ask("primary", request)
            version, reading.result = found
        return int(version)

    async def use() -> None:
        seen = 0
        for number in range(12):
            await asyncio.sleep(random.uniform(0.5, 2.0))
            try:
                seen = await write(f"{me()}/{number}")
                await asyncio.sleep(0.5)
                seen = await read(seen if remember else 0)
            except NoAnswer:
                pass

    await world.start("primary", lambda: serve(primary.answer))
    await world.start("replica", serve_replica)
    await world.start("client", use)
    await weather(world, 20.0)
    judge(recorder, "causal", initial="", guarantees=["read-your-writes", "monotonic-reads"])


async def broken(world: World) -> None:
    await play(world, remember=False)


async def repaired(world: World) -> None:
    await play(world, remember=True)
