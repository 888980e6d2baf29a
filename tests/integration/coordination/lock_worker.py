"""A process that increments a counter while it holds something, again and again, and says what it does.

lock_worker.py ENGINE-URL keep      joins, writes once, and does nothing more
lock_worker.py ENGINE-URL lock      holds a lock
lock_worker.py ENGINE-URL lead      is the elected leader
"""

from __future__ import annotations

import asyncio
import sys

from coterie import App, CoterieError, Fenced
from coterie.coordination import Election, Lease, Lock

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


async def work(held: Lock | Election) -> None:
    while True:
        try:
            async with held as lease:
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
        if what == "keep":
            await asyncio.Event().wait()
        await work(app.lock("counter") if what == "lock" else app.election("counter"))


asyncio.run(main(*sys.argv[1:]))
