"""Small programs that coordinate, each with nothing wrong."""

from __future__ import annotations

import asyncio
import random

from coterie import App
from coterie.coordination import Lease

locked = App("locked")
_counts = locked.map("counts", int)
_lock = locked.lock("counter", wait_s=5.0)
_places = locked.semaphore("places", 2, wait_s=5.0)
_shelf = locked.read_write_lock("shelf", wait_s=5.0)


@locked.leader("chief")
async def leads(lease: Lease) -> None:
    while not lease.lost:
        await _counts.put("leader", lease.token, fence=lease)
        await asyncio.sleep(1.0)


@locked.workload(clients=3, pause_s=0.3)
async def holds() -> None:
    async with _lock as lease:
        value = await _counts.get("a", 0)
        await asyncio.sleep(0.3 * random.random())
        await _counts.put("a", value + 1, fence=lease)
    async with _places:
        await asyncio.sleep(0.3 * random.random())
    async with _shelf.write if random.random() < 0.3 else _shelf.read:
        await asyncio.sleep(0.1 * random.random())
