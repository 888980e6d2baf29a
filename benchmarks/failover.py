"""How long nobody can write after the leader of an engine was killed: our adapter beside the plain client.

    python -m benchmarks.failover [--quick] [--json]

Three members on this machine. Both clients write all the time, each one write after the other, and are
connected to the leader when it is killed with SIGKILL; what counts is when the first write that was begun
after that succeeds. The members then start again, and so on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from coterie import lab
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import CoterieError
from coterie.node.engines import open_engine
from coterie.ports.store import Commit, Put

from ._failover_peers import ENGINES, RAW_STREAM, errors_of, nats_step_down, raw_writer
from ._harness import Goal, Row, Sample, compare, loop_factory, main

__all__ = ["TITLE", "run"]

TITLE = "From the death of the leader to the next write, three members, seconds"
GOAL = 1.2
WARM_S = 1.0
OUR_STREAM = "coterie-store"
"""NATS has a leader for each stream; here one member leads both, that of the adapter and that beside it."""

Write = Callable[[], Awaitable[object]]
"""Writes once; raises when that failed or may have."""


class FirstMember(SystemEntropy):
    """Chooses the first member of the URL, which is the leader here."""

    def randbelow(self, bound: int) -> int:
        return 0


@asynccontextmanager
async def our_writer(url: str) -> Any:
    """Give the adapter's way to write."""
    engine = await open_engine(url, clock=SystemClock(), entropy=FirstMember())
    assert engine.store is not None
    store = engine.store
    try:
        yield lambda: store.commit(Commit((Put("failover", b"v"),)))
    finally:
        await engine.close()


class Client:
    """Writes all the time, and notes when the first write succeeded that was begun after the death."""

    def __init__(self, write: Write, errors: tuple[type[Exception], ...]) -> None:
        self._write = write
        self._errors = errors
        self.killed_at: float | None = None
        self.writing = asyncio.Event()
        self.back: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        while not self.back.done():
            begun = time.perf_counter()
            try:
                await self._write()
            except self._errors:
                await asyncio.sleep(0.005)
                continue
            self.writing.set()
            if self.killed_at is not None and begun > self.killed_at:
                self.back.set_result(time.perf_counter() - self.killed_at)


async def once(cluster: lab.Cluster, name: str) -> dict[str, Sample]:
    """Kill the leader once, and return how long each client could not write."""
    await cluster.wait_ready()
    leader = await cluster.leader(of=OUR_STREAM if name == "nats" else None)
    members = [cluster.addresses[leader], *(a for i, a in enumerate(cluster.addresses) if i != leader)]
    addresses = [str(address) for address in members]
    ways: dict[str, AbstractAsyncContextManager[Write]] = {
        "raw": raw_writer(name, addresses),
        "coterie": our_writer(f"{name}://{','.join(addresses)}"),
    }
    async with ways["raw"] as raw, ways["coterie"] as ours:
        while name == "nats" and await cluster.leader(of=RAW_STREAM) != leader:
            await nats_step_down(addresses)
        clients = {
            "raw": Client(raw, (*errors_of(name), OSError, TimeoutError)),
            "coterie": Client(ours, (CoterieError,)),
        }
        running = [asyncio.create_task(client.run()) for client in clients.values()]
        for client in clients.values():
            await client.writing.wait()
        await asyncio.sleep(WARM_S)
        killed_at = time.perf_counter()
        await cluster.kill(leader)
        for client in clients.values():
            client.killed_at = killed_at
        await asyncio.gather(*running)
    await cluster.restart(leader)
    return {who: Sample(client.back.result()) for who, client in clients.items()}


async def measure(name: str, rounds: int) -> list[Row]:
    """Measure one engine."""
    samples: dict[str, list[Sample]] = {"raw": [], "coterie": []}
    async with lab.start(name, members=3) as cluster:
        async with our_writer(cluster.url) as write:
            await write()  # With NATS there is a stream now, and so a leader of it.
        for _ in range(rounds):
            for who, sample in (await once(cluster, name)).items():
                samples[who].append(sample)
    goals = [Goal("coterie", of="raw", at_most=GOAL)]
    return compare(f"{name}, leader killed", samples, unit="s", goals=goals)


def run(quick: bool = False) -> list[Row]:
    """Measure every engine that elects a leader, or those that COTERIE_BENCH_ENGINES names."""
    chosen = [name for name in os.environ.get("COTERIE_BENCH_ENGINES", "").split(",") if name]
    logging.getLogger("coterie").setLevel(logging.ERROR)  # That members die is no news here.
    rows: list[Row] = []
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        for name in ENGINES:
            if not chosen or name in chosen:
                rows += runner.run(measure(name, 2 if quick else 5))
    return rows


if __name__ == "__main__":
    main(TITLE, run, sys.argv[1:])
