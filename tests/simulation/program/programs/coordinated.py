"""Small programs that coordinate, each with nothing wrong."""

from __future__ import annotations

import asyncio
import random

from coterie import App
from coterie.coordination import JobPolicy, Lease, Tick

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


numbered = App("numbered")
_invoices = numbered.sequence("invoices", block=20)
_strict = numbered.sequence("strict", block=1)


@numbered.workload(clients=3, pause_s=0.2)
async def counts() -> None:
    await _invoices.next()
    await _invoices.reserve(random.randint(1, 5))
    await _strict.next()


ticking = App("ticking")
_runs = ticking.map("runs", int)


@ticking.every(1.0, policy=JobPolicy(missed="all", overlap="queue"))
async def often(tick: Tick) -> None:
    await asyncio.sleep(0.5 * random.random())
    await _runs.update("often", lambda runs: runs + 1, default=0, fence=tick)


@ticking.every(2.0, policy=JobPolicy(crashed="leave"))
async def seldom() -> None:
    await asyncio.sleep(3.0 * random.random())


@ticking.workload
async def looks() -> None:
    await _runs.get("often", 0)
