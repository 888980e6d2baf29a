"""Each engine's adapter beside its plain client: get, compare-and-set, append and read, 1 and 64 in flight.

    python -m benchmarks.engines [--quick] [--json]

One real server of each kind, started by `coterie.lab`, with everything synced; values of 100 bytes; a read is
of 100 records, and no two readers ask for the same page, whose query they could share. `raw` is what a person
would write with the plain client, see `_engine_peers.py`.
COTERIE_BENCH_ENGINES=postgres,etcd chooses some.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from coterie import lab
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.node.engines import open_engine
from coterie.ports import Engine
from coterie.ports.log import Record
from coterie.ports.store import Check, Commit, Put

from ._engine_peers import Etcd, Nats, Peer, Postgres, Redis
from ._harness import Goal, Row, Sample, compare, loop_factory, main, take_turns

__all__ = ["TITLE", "run"]

TITLE = "Engines beside their plain clients, one server, synced, values of 100 bytes"
GOAL = 0.8
KEYS = 256
VALUE = b"v" * 100
READ = 100
TOPIC = "bench"

Act = Callable[[int, int], Awaitable[object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """An engine: how the lab calls it, what its plain client is, and what its URL needs besides."""

    lab: str
    peer: Callable[[], Peer]
    settings: Mapping[str, str]


KINDS: Mapping[str, Kind] = {
    "nats": Kind(lab="nats", peer=Nats, settings={}),
    "postgres": Kind(lab="postgres", peer=Postgres, settings={}),
    "etcd": Kind(lab="etcd", peer=Etcd, settings={}),
    "redis": Kind(lab="valkey", peer=Redis, settings={}),
}
"""Adding an engine is a line here and a class in `_engine_peers.py`."""


def page(who: int, number: int) -> int:
    """Return where reader `who` begins its next page: at no time two of them at the same record."""
    return (who * 23 + number * READ) % (15 * READ)


async def load(in_flight: int, seconds: float, act: Act) -> Sample:
    """Run `act(who, number)` in a loop by each of `in_flight` tasks; return operations a second."""
    clock = time.perf_counter
    latencies_s: list[float] = []
    started = clock()
    end = started + seconds

    async def one(who: int) -> None:
        number, begun = 0, clock()
        while begun < end:
            await act(who, number)
            done = clock()
            latencies_s.append(done - begun)
            number, begun = number + 1, done

    await asyncio.gather(*(one(who) for who in range(in_flight)))
    return Sample.of(len(latencies_s) / (clock() - started), latencies_s)


class Bench:
    """An open engine and its plain client, with the same entries and records."""

    def __init__(self, engine: Engine, peer: Peer, in_flight: int, seconds: float) -> None:
        assert engine.store is not None
        self.store = engine.store
        self.log = engine.log
        self.peer = peer
        self.in_flight = in_flight
        self.seconds = seconds
        self.keys = [f"key-{number:03}" for number in range(KEYS)]
        self.versions: dict[str, list[int]] = {"raw": [], "coterie": []}

    async def fill(self) -> None:
        for key in self.keys:
            self.versions["raw"].append(await self.peer.swap(key, VALUE, 0))
            self.versions["coterie"].append(await self.store.commit(Commit((Put(key, VALUE),))))
        if self.log is not None:
            await self.log.create(TOPIC, 1)
            for _ in range(20):
                await asyncio.gather(*(self.peer.append(VALUE) for _ in range(READ)))
                await self.log.append(TOPIC, 0, [Record(VALUE)] * READ)

    def parts(self) -> dict[str, dict[str, Act]]:
        """Return what is measured, by whom."""
        keys, peer, store, log = self.keys, self.peer, self.store, self.log

        async def swap_raw(who: int, _number: int) -> None:
            now = self.versions["raw"]
            now[who] = await peer.swap(keys[who], VALUE, now[who])

        async def swap(who: int, _number: int) -> None:
            now = self.versions["coterie"]
            commit = Commit((Put(keys[who], VALUE),), (), (Check(keys[who], now[who]),))
            now[who] = await store.commit(commit)

        parts: dict[str, dict[str, Act]] = {
            "get": {
                "raw": lambda who, n: peer.get(keys[(who * 7 + n) % KEYS]),
                "coterie": lambda who, n: store.get(keys[(who * 7 + n) % KEYS]),
            },
            "compare-and-set": {"raw": swap_raw, "coterie": swap},
        }
        if log is not None:
            parts["append"] = {
                "raw": lambda _who, _n: peer.append(VALUE),
                "coterie": lambda _who, _n: log.append(TOPIC, 0, [Record(VALUE)]),
            }
            parts["read"] = {
                "raw": lambda who, n: peer.read(page(who, n), READ),
                "coterie": lambda who, n: log.read(TOPIC, 0, page(who, n), limit=READ),
            }
        return parts


def turn(runner: asyncio.Runner, in_flight: int, seconds: float, act: Act) -> Callable[[], Sample]:
    """Return one measurement of `act`."""
    return lambda: runner.run(load(in_flight, seconds, act))


def measure(runner: asyncio.Runner, name: str, url: str, in_flight: int, *, quick: bool) -> list[Row]:
    """Measure one engine with so many in flight."""
    rounds, seconds = (3, 0.4) if quick else (5, 0.7)
    peer = KINDS[name].peer()
    engine = runner.run(open_engine(url, clock=SystemClock(), entropy=SystemEntropy()))
    try:
        runner.run(peer.open(url.partition("?")[0], in_flight))
        on = Bench(engine, peer, in_flight, seconds)
        runner.run(on.fill())
        rows = []
        for part, acts in on.parts().items():
            turns = {who: turn(runner, in_flight, seconds, act) for who, act in acts.items()}
            samples = take_turns(turns, rounds=rounds)
            goals = [Goal("coterie", of="raw", at_least=GOAL)]
            rows += compare(f"{name} {part}", samples, in_flight=in_flight, goals=goals)
        return rows
    finally:
        runner.run(peer.close())
        runner.run(engine.close())


def run(quick: bool = False) -> list[Row]:
    """Measure every engine, or those that COTERIE_BENCH_ENGINES names, each on a server of its own."""
    chosen = [name for name in os.environ.get("COTERIE_BENCH_ENGINES", "").split(",") if name] or list(KINDS)
    rows = []
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        for name in chosen:
            cluster = lab.start(KINDS[name].lab, settings=KINDS[name].settings)
            runner.run(cluster.__aenter__())
            try:
                for in_flight in (1, 64):
                    rows += measure(runner, name, cluster.url, in_flight, quick=quick)
            finally:
                runner.run(cluster.__aexit__(None, None, None))
    return rows


if __name__ == "__main__":
    main(TITLE, run, sys.argv[1:])
