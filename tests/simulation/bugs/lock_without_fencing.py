"""Lock without fencing: a holder pauses, its lease expires, and it writes as if nothing had happened.

What goes wrong: between taking the lock and writing, the process stands still for longer than the lease
lasts (a collection of garbage, a suspended machine, a slow disk). Somebody else is the holder by then,
and has written. No check by the holder helps: the pause may come right after it.

Textbook: a lease without a fencing token (Kleppmann, How to do distributed locking, 2016).

Repair: each acquisition carries a token that only rises, and the storage refuses a write whose token is
lower than the highest that it has seen.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from bug_kit import NoAnswer, ask, judge, me, recorder_of, serve, weather

from coterie.history import Recorder
from coterie.simulation import World

LEASE_S = 2.0


class LockServer:
    """Grants a lease to one at a time, by its own clock. The object outlives its process."""

    def __init__(self) -> None:
        self.token = 0
        self.free_at_s = 0.0

    async def answer(self, request: Any) -> Any:
        now = asyncio.get_running_loop().time()
        if request == "acquire" and now >= self.free_at_s:
            self.token += 1
            self.free_at_s = now + LEASE_S
            return self.token
        if request == self.token:
            self.free_at_s = 0.0  # The newest holder gives it back.
        return None


class Storage:
    """The resource that the lock guards. It records what it accepts."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.highest = 0

    def admits(self, token: int) -> bool:
        return True

    async def answer(self, token: Any) -> Any:
        if not self.admits(token):
            return "refused"
        self.highest = max(self.highest, token)
        self.recorder.invoke("storage", "write", value=token)
        self.recorder.ok("storage")
        return "written"


class FencedStorage(Storage):
    def admits(self, token: int) -> bool:
        return token >= self.highest


async def play(world: World, storage_of: type[Storage]) -> None:
    recorder = recorder_of(world)
    lock, storage = LockServer(), storage_of(recorder)

    async def work() -> None:
        while True:
            await asyncio.sleep(random.uniform(0.2, 1.0))
            try:
                with recorder.operation(me(), "acquire") as acquiring:
                    acquiring.result = token = await ask("lock", "acquire")
                if token is not None:
                    await asyncio.sleep(0.2)  # What the lock was taken for.
                    await ask("storage", token)
                    await ask("lock", token)
            except NoAnswer:
                pass  # The lease ends by itself.

    await world.start("lock", lambda: serve(lock.answer))
    await world.start("storage", lambda: serve(storage.answer))
    for name in ("a", "b"):
        await world.start(name, work)
    await weather(world, 20.0)
    judge(recorder, "mutex", mode="fenced")


async def broken(world: World) -> None:
    await play(world, Storage)


async def repaired(world: World) -> None:
    await play(world, FencedStorage)
