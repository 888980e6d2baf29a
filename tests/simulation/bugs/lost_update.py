"""Lost update: two clients read the same value, and the second to write undoes what the first did.

What goes wrong: `get`, add one, `put`. Between the `get` and the `put` anybody may write; the `put`
overwrites that without a look. It takes no fault, only two clients at one time; whatever holds
requests up makes that likely.

Textbook: lost update, Adya's P4 (Berenson and others, A critique of ANSI SQL isolation levels, 1995).

Repair: compare-and-set. `update` writes only if the version that it has read is still the newest, else
it reads again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from bug_kit import judge, me, recorder_of, weather

from coterie import App
from coterie.errors import CoterieError
from coterie.simulation import World
from coterie.simulation.nodes import connected
from coterie.simulation.standin import StandIn

app = App("shop")
sold = app.map("sold", int)


async def count_blindly() -> None:
    number = await sold.get("tea", 0)
    await sold.put("tea", number + 1)


async def count_if_unchanged() -> None:
    await sold.update("tea", lambda number: number + 1, default=0)


async def play(world: World, count: Callable[[], Awaitable[None]]) -> None:
    recorder = recorder_of(world)
    engine = StandIn(world)
    await engine.start()

    async def sell() -> None:
        async with connected(engine, app):
            for _ in range(10):
                await asyncio.sleep(random.uniform(0.5, 2.5))
                try:
                    with recorder.operation(me(), "add", value=1):
                        await count()
                except CoterieError:
                    pass  # Recorded, as not applied or as unknown.

    async def look() -> None:
        async with connected(engine, app):
            with recorder.operation(me(), "read") as reading:
                reading.result = await sold.get("tea", 0)

    for name in ("a", "b", "c"):
        await world.start(name, sell)
    await weather(world, 20.0)
    for name in ("a", "b", "c"):
        await world.wait(name)
    await world.start("auditor", look)
    await world.wait("auditor")
    judge(recorder, "counter", exact=False)


async def broken(world: World) -> None:
    await play(world, count_blindly)


async def repaired(world: World) -> None:
    await play(world, count_if_unchanged)
