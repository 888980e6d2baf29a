"""Acknowledged before synced: the server says "stored", the power goes, and it is not.

What goes wrong: `write` hands the bytes to the operating system, which keeps them in memory for a while.
Killing the process does no harm, so tests that kill find nothing; a loss of power takes what was not
synced, and may leave half a record.

Textbook: durability, the D of ACID (Pillai and others, All file systems are not created equal, 2014).

Repair: `fsync` before the acknowledgement.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

from bug_kit import NoAnswer, ask, judge, me, recorder_of, serve, weather

from coterie.simulation import World

JOURNAL = Path("/journal")


def load() -> list[int]:
    """Return the records of the journal; one that is torn is passed over."""
    if not JOURNAL.exists():
        return []
    lines = JOURNAL.read_bytes().split(b"\n")
    return [int(line[:-1]) for line in lines if line.endswith(b";")]


def store(number: int, *, sync: bool) -> None:
    with JOURNAL.open("ab", buffering=0) as file:
        # A record begins on a line of its own, whatever a crash has left of the one before it.
        file.write(b"\n%d;" % number)
        if sync:
            os.fsync(file.fileno())


async def play(world: World, *, sync: bool) -> None:
    recorder = recorder_of(world)

    async def keep_journal() -> None:
        stored = load()

        async def answer(number: Any) -> Any:
            if number is not None:
                store(number, sync=sync)
                stored.append(number)
            return stored

        await serve(answer)

    async def add() -> None:
        for number in range(20):
            await asyncio.sleep(random.uniform(0.3, 1.5))
            try:
                with recorder.operation(me(), "add", value=unique(number)):
                    await ask("server", unique(number))
            except NoAnswer:
                pass  # Unknown: it is not tried again, so each number is added once.

    def unique(number: int) -> int:
        """Distinguish what a client adds after it was started again."""
        return os.getpid() * 100 + number

    async def look() -> None:
        with recorder.operation(me(), "read") as reading:
            reading.result = await ask("server", None)

    await world.start("server", keep_journal)
    await world.start("client", add)
    await weather(world, 20.0)
    await world.wait("client")
    await world.start("auditor", look)
    await world.wait("auditor")
    judge(recorder, "set")


async def broken(world: World) -> None:
    await play(world, sync=False)


async def repaired(world: World) -> None:
    await play(world, sync=True)
