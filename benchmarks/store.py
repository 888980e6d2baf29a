"""Keys on SQLite: the engine and strong maps beside raw sqlite3 with the same settings.

    python -m benchmarks.store [--quick] [--json]

`raw` is what a person would write by hand, see `_sqlite.py`; `store` is the engine's Store; `map` is
a strong map on it, with its codec. All in one process, on one loop, each with a file of its own.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coterie.context import CURRENT, Call
from coterie.engines.sqlite import SqliteEngine
from coterie.engines.system import SystemEntropy
from coterie.ports.store import Check, Commit, Put
from coterie.state import MapBinding, StrongMap

from ._harness import Goal, Row, Sample, compare, loop_factory, main, take_turns
from ._sqlite import GET, KEYS, SWAP, UPSERT, VALUE, RawWriter, connect_raw, open_sqlite

__all__ = ["TITLE", "run"]

TITLE = "Keys on SQLite, durable (synchronous=FULL), values of 100 bytes"
GET_GOAL = 0.6
WRITE_GOAL = 0.8

Measure = Callable[[], Coroutine[Any, Any, Sample]]


class Bench:
    """One engine, one map and one raw file, each with the same entries."""

    def __init__(
        self, engine: SqliteEngine, words: StrongMap[bytes], raw: RawWriter, raw_path: Path, seconds: float
    ) -> None:
        self.engine = engine
        self.words = words
        self.raw = raw
        self.raw_reader = connect_raw(raw_path)
        self.seconds = seconds
        self.keys = [f"bench/map/words/key-{n:04}" for n in range(KEYS)]
        self.short = [f"key-{n:04}" for n in range(KEYS)]
        self.versions = count(2)  # SQLite writes no page that does not change.

    async def fill(self) -> None:
        for key, short in zip(self.keys, self.short, strict=True):
            await asyncio.gather(self.raw.write((UPSERT, (key, VALUE, 1))), self.words.put(short, VALUE))

    async def get_raw(self) -> Sample:
        execute, keys = self.raw_reader.execute, self.keys
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < self.seconds:
            for key in keys:
                assert execute(GET, (key,)).fetchone()
            done += KEYS
        return Sample(done / (time.perf_counter() - started))

    async def get_store(self) -> Sample:
        return await self._get(self.engine.store.get, self.keys)

    async def get_map(self) -> Sample:
        return await self._get(self.words.get, self.short)

    async def _get(self, get: Callable[[str], Awaitable[object]], keys: list[str]) -> Sample:
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < self.seconds:
            for key in keys:
                assert await get(key)
            done += KEYS
        return Sample(done / (time.perf_counter() - started))

    async def put_raw(self, writers: int) -> Sample:
        write, keys, versions = self.raw.write, self.keys, self.versions
        return await self._load(
            writers, lambda who, n: write((UPSERT, (keys[(who * 7 + n) % KEYS], VALUE, next(versions))))
        )

    async def put_store(self, writers: int) -> Sample:
        commit, keys = self.engine.store.commit, self.keys
        return await self._load(
            writers, lambda who, n: commit(Commit((Put(keys[(who * 7 + n) % KEYS], VALUE),)))
        )

    async def put_map(self, writers: int) -> Sample:
        put, keys = self.words.put, self.short
        return await self._load(writers, lambda who, n: put(keys[(who * 7 + n) % KEYS], VALUE))

    async def swap_raw(self, writers: int) -> Sample:
        write, keys = self.raw.write, self.keys
        versions = [1] * writers
        for who in range(writers):
            await write((UPSERT, (keys[who], VALUE, 1)))

        async def swap(who: int, _n: int) -> None:
            now = versions[who]
            assert await write((SWAP, (VALUE, now + 1, keys[who], now))) == 1
            versions[who] = now + 1

        return await self._load(writers, swap)

    async def swap_store(self, writers: int) -> Sample:
        commit, keys = self.engine.store.commit, self.keys
        versions = [await commit(Commit((Put(keys[who], VALUE),))) for who in range(writers)]

        async def swap(who: int, _n: int) -> None:
            key = keys[who]
            versions[who] = await commit(Commit((Put(key, VALUE),), (), (Check(key, versions[who]),)))

        return await self._load(writers, swap)

    async def swap_map(self, writers: int) -> Sample:
        put, keys = self.words.put, self.short
        versions = [await put(keys[who], VALUE) for who in range(writers)]

        async def swap(who: int, _n: int) -> None:
            versions[who] = await put(keys[who], VALUE, expect=versions[who])

        return await self._load(writers, swap)

    async def _load(self, writers: int, write: Callable[[int, int], Awaitable[Any]]) -> Sample:
        clock = time.perf_counter
        latencies_s: list[float] = []
        started = clock()
        end = started + self.seconds

        async def writer(who: int) -> None:
            number, begun = 0, started
            while begun < end:
                await write(who, number)
                done = clock()
                latencies_s.append(done - begun)
                number, begun = number + 1, done

        await asyncio.gather(*(writer(who) for who in range(writers)))
        return Sample.of(len(latencies_s) / (clock() - started), latencies_s)


@asynccontextmanager
async def bench(folder: Path, seconds: float) -> AsyncIterator[Bench]:
    """Open everything in `folder` and fill it; each measurement takes `seconds`."""
    engine = await open_sqlite(folder / "coterie.db")
    raw = RawWriter(folder / "raw.db")
    words = StrongMap("words", bytes)
    binding = MapBinding(store=engine.store, prefix="bench/map/words/", entropy=SystemEntropy())
    token = CURRENT.set(Call("bench", {words: binding}))
    try:
        opened = Bench(engine, words, raw, folder / "raw.db", seconds)
        await opened.fill()
        yield opened
        opened.raw_reader.close()
    finally:
        CURRENT.reset(token)
        raw.close()
        await engine.close()


def _turn(runner: asyncio.Runner, measure: Measure) -> Callable[[], Sample]:
    return lambda: runner.run(measure())


def run(quick: bool = False) -> list[Row]:
    """Measure gets, puts with one and with 64 in flight, and compare-and-set with 64."""
    rounds, seconds = (3, 0.4) if quick else (7, 1.0)
    with TemporaryDirectory() as name, asyncio.Runner(loop_factory=loop_factory) as runner:
        opening = bench(Path(name), seconds)
        on = runner.run(opening.__aenter__())

        def part(label: str, in_flight: int, goal: float, **candidates: Measure) -> list[Row]:
            turns = {who: _turn(runner, measure) for who, measure in candidates.items()}
            samples = take_turns(turns, rounds=rounds)
            goals = [Goal(who, of="raw", at_least=goal) for who in ("store", "map") if goal]
            return compare(label, samples, in_flight=in_flight, goals=goals)

        try:
            rows = part("get", 1, GET_GOAL, raw=on.get_raw, store=on.get_store, map=on.get_map)
            for writers, goal in ((1, 0.0), (64, WRITE_GOAL)):
                rows += part(
                    "put",
                    writers,
                    goal,
                    raw=partial(on.put_raw, writers),
                    store=partial(on.put_store, writers),
                    map=partial(on.put_map, writers),
                )
            return rows + part(
                "compare-and-set",
                64,
                WRITE_GOAL,
                raw=partial(on.swap_raw, 64),
                store=partial(on.swap_store, 64),
                map=partial(on.swap_map, 64),
            )
        finally:
            runner.run(opening.__aexit__(None, None, None))


if __name__ == "__main__":
    main(TITLE, run, sys.argv[1:])
