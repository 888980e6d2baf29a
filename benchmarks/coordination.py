"""Locks: taking a free one and giving it back, and handing one over among 16 waiters.

    python -m benchmarks.coordination [--quick] [--json]

`raw` is a put and then a delete of one key on the same Store: what the two writes of a turn cost without
a lock. Peers are measured where they are installed: redis-py's Lock on Valkey, tooz and aetcd on etcd. All
run in one process; tooz blocks, so its waiters are threads. The three peers let whoever asks at the right
moment have the lock, often the task that has just given it back, so they hand it over less often than it
seems, and some wait long (p99); Coterie keeps the order of asking.
Engines that are not installed are left out.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coterie import lab
from coterie.context import CURRENT, Call
from coterie.coordination import Coordination, CoordinationConfig, Lock
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.node.engines import open_engine
from coterie.ports.store import Commit, Put

from ._harness import Goal, Row, Sample, compare, loop_factory, main, take_turns
from ._lock_peers import peers

__all__ = ["TITLE", "run"]

TITLE = "Locks: a free one taken and given back, and one handed over among 16 waiters"
WAITERS = 16
ENGINES = ("sqlite", "valkey", "etcd", "nats")

Turn = Callable[[], Awaitable[None]]


@asynccontextmanager
async def opened(engine: str, folder: Path) -> AsyncIterator[dict[str, Turn]]:
    """Start an engine; yield what takes and gives back a lock once, by whom."""
    clock, entropy = SystemClock(), SystemEntropy()
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{folder}/locks.db"
        if engine != "sqlite":
            url = (await stack.enter_async_context(lab.start(engine))).url
        scheme = url.replace("redis://", "valkey://") if engine == "valkey" else url
        store: Any = (running := await open_engine(scheme, clock=clock, entropy=entropy)).store
        stack.push_async_callback(running.close)
        config = CoordinationConfig(lease_s=30.0)
        here = Coordination(store, "bench", clock=clock, entropy=entropy, node="n", config=config)
        stack.push_async_callback(here.release)
        call, lock = Call("n", {Coordination: here}), Lock("x", wait_s=None)

        async def raw() -> None:
            await store.commit(Commit((Put("bench/raw", b""),)))
            await store.commit(Commit((), ("bench/raw",)))

        async def coterie() -> None:
            CURRENT.set(call)
            async with lock:
                pass

        turns: dict[str, Turn] = {"raw": raw, "coterie": coterie}
        for name, opener in peers(engine).items():
            turns[name], close = await opener(url)
            stack.push_async_callback(close)
        yield turns


async def measure(turn: Turn, waiters: int, seconds: float) -> Sample:
    """Let so many take turns for so long; return turns per second and how long one waits for its own."""
    latencies_s: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    async def waiter() -> None:
        while (begun := time.perf_counter()) < end:
            await turn()
            latencies_s.append(time.perf_counter() - begun)

    await asyncio.gather(*(waiter() for _ in range(waiters)))
    return Sample.of(len(latencies_s) / (time.perf_counter() - began), latencies_s)


def run(quick: bool = False) -> list[Row]:
    """Measure on each engine that is installed."""
    rows: list[Row] = []
    rounds, seconds = (1, 0.5) if quick else (5, 1.0)
    for engine in ENGINES:
        with TemporaryDirectory() as name, asyncio.Runner(loop_factory=loop_factory) as runner:
            place = opened(engine, Path(name))
            try:
                turns = runner.run(place.__aenter__())
            except lab.LabError:
                continue  # It is not installed.
            try:
                rows += _rows(engine, turns, runner, rounds, seconds)
            finally:
                runner.run(place.__aexit__(None, None, None))
    return rows


def _rows(
    engine: str, turns: dict[str, Turn], runner: asyncio.Runner, rounds: int, seconds: float
) -> list[Row]:
    def part(label: str, waiters: int, names: list[str], goals: list[Goal]) -> list[Row]:
        candidates = {
            name: (lambda turn=turns[name]: runner.run(measure(turn, waiters, seconds))) for name in names
        }
        return compare(label, take_turns(candidates, rounds=rounds), in_flight=waiters, goals=goals)

    beside = [name for name in turns if name not in {"raw", "coterie"}]
    goals = [Goal("coterie", of=name, at_least=1.5) for name in beside if name == "tooz"]
    rows = part(f"{engine}: lock and unlock", 1, list(turns), goals)
    # The raw limit of a hand-over is that of one turn after the other.
    return rows + part(f"{engine}: hand-over", WAITERS, ["coterie", *beside], [])


if __name__ == "__main__":
    main(TITLE, run, sys.argv[1:])
