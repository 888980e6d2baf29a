"""Streams of numbers, some of which their readers leave early, with nothing wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from coterie import App

app = App("streaming")


@app.service
class Numbers:
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            if random.random() < 0.2:
                await asyncio.sleep(0.1 * random.random())
            yield number


_numbers = app.client(Numbers)


@app.workload(clients=3, pause_s=0.2)
async def reads() -> None:
    wanted = random.choice((0, 3, 10, 100))
    leaves_at = random.randrange(2 * wanted + 1)
    async for number in _numbers.count(wanted):
        if number == leaves_at:
            break
