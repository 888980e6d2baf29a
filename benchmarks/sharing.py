"""Three processes write to one SQLite file: through the engine, and with plain `BEGIN IMMEDIATE`.

    python -m benchmarks.sharing [--quick] [--json]

`plain` is what a person would write by hand: each writer has a connection with a busy timeout of 5 s
and a transaction for each put, in a thread of its own. Measured are the puts of all, how unequal the
processes' shares are, and how long a put takes. All are durable (WAL, synchronous=FULL).
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from coterie.ports.store import Commit, Put

from ._harness import Goal, Row, Sample, compare, loop_factory, main, take_turns, worker
from ._sqlite import KEYS, UPSERT, VALUE, connect_raw, open_sqlite

__all__ = ["TITLE", "run"]

TITLE = "Three processes put to one SQLite file, durable (synchronous=FULL)"
PROCESSES = 3

Latencies = list[tuple[float, ...]]
"""By process, of each put, in seconds."""


def race(kind: str, path: Path, writers: int, seconds: float) -> Latencies:
    """Let the processes write at once, each with so many writers."""
    arguments = ("--worker", kind, str(path), str(writers), str(seconds))
    with ExitStack() as stack:
        started = [stack.enter_context(worker("sharing", *arguments))[0] for _ in range(PROCESSES)]
        for process in started:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        files = [process.stdout.readline().rstrip("\n") for process in started if process.stdout]
    return [tuple(json.loads(Path(file).read_text(encoding="ascii"))) for file in files]


def work_plain(path: Path, writers: int, seconds: float) -> list[float]:
    """Write in threads, each put in a transaction of its own; return the latencies."""
    latencies_s: list[float] = []
    wait_for_go()
    end = time.perf_counter() + seconds

    def write(who: int) -> None:
        sql = connect_raw(path)
        number = 0
        while (begun := time.perf_counter()) < end:
            try:
                sql.execute("BEGIN IMMEDIATE")
                # A version of its own for each: SQLite writes no page that does not change.
                key = f"key-{(who * 7 + number) % KEYS}"
                sql.execute(UPSERT, (key, VALUE, time.perf_counter_ns()))
                sql.execute("COMMIT")
            except sqlite3.OperationalError:  # Locked for all of the busy timeout: the put failed.
                if sql.in_transaction:
                    sql.execute("ROLLBACK")
            number += 1
            latencies_s.append(time.perf_counter() - begun)
        sql.close()

    threads = [threading.Thread(target=write, args=(who,)) for who in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies_s


async def work_engine(path: Path, writers: int, seconds: float) -> list[float]:
    """Write through the engine, in tasks; return the latencies."""
    engine = await open_sqlite(path)
    await asyncio.to_thread(wait_for_go)
    latencies_s: list[float] = []
    end = time.perf_counter() + seconds

    async def write(who: int) -> None:
        number = 0
        while (begun := time.perf_counter()) < end:
            key = f"key-{(who * 7 + number) % KEYS}"
            await engine.store.commit(Commit((Put(key, VALUE),)))
            number += 1
            latencies_s.append(time.perf_counter() - begun)

    await asyncio.gather(*(write(who) for who in range(writers)))
    await engine.close()
    return latencies_s


def wait_for_go() -> None:
    """Tell the parent that all is ready, and wait for its word."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def run(quick: bool = False) -> list[Row]:
    """Measure with one and with 16 writers in each process."""
    rounds, seconds = (1, 2.0) if quick else (5, 3.0)
    rows: list[Row] = []
    for writers in (1, 16):
        with TemporaryDirectory() as name:
            races: dict[str, list[Latencies]] = {"plain": [], "coterie": []}

            def turn(kind: str, folder: Path, writers: int, to: list[Latencies]) -> Callable[[], Sample]:
                def measure() -> Sample:
                    latencies = race(kind, folder / f"{kind}-{len(to)}.db", writers, seconds)
                    to.append(latencies)
                    every = [latency for one in latencies for latency in one]
                    return Sample.of(len(every) / seconds, every)

                return measure

            turns = {kind: turn(kind, Path(name), writers, to) for kind, to in races.items()}
            rates = take_turns(turns, rounds=rounds, warm_up=0)
        rows += _rows(PROCESSES * writers, rates, races)
    return rows


def _rows(in_flight: int, rates: dict[str, list[Sample]], races: dict[str, list[Latencies]]) -> list[Row]:
    def of(measure: Callable[[Latencies], float]) -> dict[str, list[Sample]]:
        return {kind: [Sample(measure(one)) for one in done] for kind, done in races.items()}

    p99 = {kind: [Sample(sample.p99_ms or 0) for sample in samples] for kind, samples in rates.items()}
    return [
        *compare("puts of all", rates, in_flight=in_flight),
        *compare(
            "most to fewest puts of a process",
            of(lambda done: max(map(len, done)) / max(1, min(map(len, done)))),
            in_flight=in_flight,
            unit="x",
            goals=[Goal("coterie", at_most=2)],
        ),
        *compare("p99 of a put", p99, in_flight=in_flight, unit="ms", goals=[Goal("coterie", at_most=50)]),
        *compare("longest put", of(lambda done: max(map(max, done)) * 1000), in_flight=in_flight, unit="ms"),
    ]


def _work(kind: str, path: Path, writers: int, seconds: float) -> None:
    if kind == "plain":
        connect_raw(path).close()
        latencies_s = work_plain(path, writers, seconds)
    else:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            latencies_s = runner.run(work_engine(path, writers, seconds))
    # More than a pipe holds, and the others are still writing.
    file = path.with_name(f"{path.name}-{os.getpid()}.json")
    file.write_text(json.dumps([round(latency, 6) for latency in latencies_s]), encoding="ascii")
    sys.stdout.write(f"{file}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--worker", kind, path, writers, seconds]:
            _work(kind, Path(path), int(writers), float(seconds))
        case arguments:
            main(TITLE, run, arguments)
