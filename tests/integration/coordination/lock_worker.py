"""A process that increments a counter under a lock, again and again, and says what it does.

lock_worker.py ENGINE-URL keep      joins, writes once, and does nothing more
lock_worker.py ENGINE-URL work
"""

from __future__ import annotations

import asyncio
import sys

from coterie import App, CoterieError, Fenced
from coterie.coordination import Lease

app = App("stopped")
counters = app.map("counters", int)


def say(*words: object) -> None:
    print(*words, flush=True)


async def write(lease: Lease, value: int) -> None:
    """Write after a while, like a thread that does not hear that the body was cancelled."""
    await asyncio.sleep(0.3)
    try:
        await counters.put("n", value, fence=lease)
        say("wrote", value)
    except Fenced:
        say("fenced", value)


async def work() -> None:
    while True:
        try:
            async with app.lock("counter") as lease:
                value = await counters.get("n", 0)
                writing = asyncio.create_task(write(lease, value + 1))
                say("has", lease.token)
                await asyncio.shield(writing)
        except CoterieError as error:
            say("error", type(error).__name__)
            await asyncio.sleep(0.05)


async def main(url: str, what: str) -> None:
    async with app.connect(url):
        if what == "keep":
            await counters.put("kept", 1)
        say("ready")
        await (asyncio.Event().wait() if what == "keep" else work())


asyncio.run(main(*sys.argv[1:]))
