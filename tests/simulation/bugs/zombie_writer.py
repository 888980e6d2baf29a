"""Zombie writer: a worker is given up after a timeout, its job is done by another, and then it writes.

What goes wrong: the coordinator takes a timeout for a death. The worker was only slow, and knows nothing of
its end. Its result overwrites that of its successor, which was published long ago.

Textbook: the zombie instance (Kafka's producer epochs, HDFS's generation stamps are made against it).

Repair: each attempt has a number, its epoch. The store refuses a result of an attempt that is older than one
whose result it has.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

from bug_kit import NoAnswer, ask, judge, me, recorder_of, serve, weather

from coterie.simulation import World

PATIENCE_S = 1.5
JOBS = 12
STORE = "store"


class Store:
    """The newest result of each job. The object outlives its process."""

    def __init__(self) -> None:
        self.results: dict[int, tuple[int, str]] = {}

    def admits(self, job: int, attempt: int) -> bool:
        return True

    async def answer(self, request: Any) -> Any:
        job, attempt, result = request
        if self.admits(job, attempt):
            self.results[job] = (attempt, result)
            return True
        return False


class StoreWithEpochs(Store):
    def admits(self, job: int, attempt: int) -> bool:
        return attempt >= self.results.get(job, (0, ""))[0]


async def work(request: Any) -> bool:
    """Do a job, store the result, and tell whether that was accepted."""
    job, attempt = request
    await asyncio.sleep(random.uniform(0.1, 0.3))
    try:
        accepted: bool = await ask(STORE, [job, attempt, f"by {me()}"])
    except NoAnswer:
        return False
    return accepted


async def play(world: World, store: Store) -> None:
    recorder = recorder_of(world)
    # What the coordinator has on its disk: the next number of an attempt, and which jobs are done.
    attempts = [itertools.count(1) for _ in range(JOBS)]
    published: set[int] = set()

    async def attempt_job(job: int, attempt: int) -> bool:
        worker = ("a", "b")[attempt % 2]
        recorder.invoke(me(), "write", key=job, value=attempt)
        try:
            if await ask(worker, [job, attempt], timeout_s=PATIENCE_S):
                recorder.ok(me())
                return True
        except NoAnswer:
            pass
        # It must be dead: what the coordinator believes is what it has to make true.
        recorder.fail(me(), "given up")
        return False

    async def coordinate() -> None:
        for job in range(JOBS):
            while job not in published:
                if await attempt_job(job, next(attempts[job])):
                    published.add(job)
            await asyncio.sleep(0.5)

    await world.start(STORE, lambda: serve(store.answer))
    for name in ("a", "b"):
        await world.start(name, lambda: serve(work))
    await world.start("coordinator", coordinate)
    await weather(world, 15.0)
    await world.wait("coordinator")
    for job in range(JOBS):
        recorder.invoke("auditor", "read", key=job)
        recorder.ok("auditor", store.results[job][0])
    judge(recorder, "register")


async def broken(world: World) -> None:
    await play(world, Store())


async def repaired(world: World) -> None:
    await play(world, StoreWithEpochs())
