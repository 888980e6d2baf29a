"""Scans of a map that changes meanwhile, a few entries at a time, with nothing wrong."""

from __future__ import annotations

import asyncio
import random

from coterie import App
from coterie.state import maps

maps._PAGE = 4

app = App("scanning")
things = app.map("things", int)


@app.workload(clients=2, pause_s=0.1)
async def changes() -> None:
    key = random.choice(("a", "b")) + str(random.randrange(10))
    if random.random() < 0.3:
        await things.delete(key)
    else:
        await things.put(key, random.randrange(100))


@app.workload(clients=2, pause_s=0.2)
async def looks() -> None:
    limit = random.choice((None, None, 3, 6))
    async for _ in things.scan(random.choice(("", "a", "b")), limit=limit):
        if random.random() < 0.1:
            await asyncio.sleep(0.1 * random.random())
