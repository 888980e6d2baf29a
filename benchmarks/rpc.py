"""Calls between processes: a small dataclass in, a small dataclass back, beside peers and the raw limit.

    python -m benchmarks.rpc [--quick] [--json]

`coterie` is a node and a caller as people run them: a typed client, the TCP wire, a service.
`raw` is the limit: what one could write by hand for this one call and nothing else, with asyncio
protocols, msgspec and the same framing. It has no names of methods, no deadlines, no cancelling, no
bounds and no errors. `raw, naive` gives each request a task and a timeout, as is usually done.

All but Pyro5, which is not asynchronous, run on uvloop. Each server and each client has a process of
its own. Candidates take turns within a round, so that a noisy neighbour disturbs all alike; medians
over rounds.

Two numbers say how fast a candidate is. Calls a second depend on which processors the kernel gives to
the two processes: with 64 in flight the hand-written ends wait for each other's whole batch, while
coterie answers in portions, so that both ends work at the same time where two processors are free. The
processor's time of a call, both ends together, depends on nothing but the work.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import pairwise
from tempfile import TemporaryDirectory

import psutil  # type: ignore[import-untyped]

from ._harness import Goal, Row, Sample, compare, loop_factory, main, take_turns
from ._rpc_peers import CANDIDATES, CLIENTS, ORDER, RECEIPT, SERVERS, Call, load_pyro, serve_pyro

__all__ = ["TITLE", "compare_programs", "load", "run", "summary"]

TITLE = "Calls between processes: a small dataclass in, a small dataclass back"
GOALS = (Goal("coterie", of="grpc.aio", at_least=15), Goal("coterie", of="raw", at_least=0.6))


async def load(call: Call, in_flight: int, seconds: float) -> list[list[float]]:
    """Return when each worker began and when each of its calls ended."""
    order = ORDER

    async def work() -> list[float]:
        clock = time.perf_counter
        end = clock() + seconds
        mine = [clock()]
        while mine[-1] < end:
            await call(order)
            mine.append(clock())
        return mine

    return await asyncio.gather(*(work() for _ in range(in_flight)))


def summary(moments: list[list[float]]) -> dict[str, float]:
    calls = sum(len(mine) - 1 for mine in moments)
    elapsed = max(mine[-1] for mine in moments) - min(mine[0] for mine in moments)
    latencies = sorted(b - a for mine in moments for a, b in pairwise(mine))
    return {"per_s": calls / elapsed, "p50_ms": _at(latencies, 50), "p99_ms": _at(latencies, 99)}


def _at(latencies: list[float], percent: int) -> float:
    return latencies[len(latencies) * percent // 100] * 1000


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _serve(name: str, folder: str) -> None:
    if name == "Pyro5":
        serve_pyro(_say)
        return

    async def serve() -> None:
        _say(await SERVERS[name](folder))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())


def _call(name: str, address: str) -> None:
    """Answer each line `in_flight seconds` of the standard input with what was measured."""
    if name == "Pyro5":
        for line in sys.stdin:
            in_flight, seconds = line.split()
            _say(json.dumps(summary(load_pyro(address, int(in_flight), float(seconds)))))
        return

    async def serve() -> None:
        async with CLIENTS[name](address) as call:
            assert await call(ORDER) == RECEIPT
            while line := await asyncio.to_thread(sys.stdin.readline):
                in_flight, seconds = line.split()
                _say(json.dumps(summary(await load(call, int(in_flight), float(seconds)))))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())


class _Process:
    """A server or a client."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "benchmarks.rpc", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip()
        if not line:
            raise RuntimeError("a process of the benchmark ended early; it says above why")
        return line

    def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.line()

    def cpu_s(self) -> float:
        """Return the processor time that it has used, in seconds."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def compare_programs(
    places: Mapping[str, str], *, beside: str | None, goals: Iterable[Goal] = (), quick: bool
) -> list[Row]:
    """Measure programs with one and with 64 calls in flight: calls a second, and CPU time of a call.

    `places` says by name what each server is given: a folder, or the URL of what carries the calls.
    """
    rounds, seconds = (3, 0.5) if quick else (7, 2.0)
    with ExitStack() as stack:
        pairs: dict[str, tuple[_Process, _Process]] = {}
        for name, place in places.items():
            server = _Process("--serve", name, place)
            stack.callback(server.close)
            client = _Process("--call", name, server.line())
            stack.callback(client.close)
            pairs[name] = server, client
        rows = []
        for in_flight in (1, 64):
            rows += _measure(
                pairs,
                in_flight=in_flight,
                rounds=rounds,
                seconds=seconds,
                beside=beside,
                goals=goals if in_flight > 1 else (),
            )
        return rows


def _measure(
    pairs: dict[str, tuple[_Process, _Process]],
    *,
    in_flight: int,
    rounds: int,
    seconds: float,
    beside: str | None,
    goals: Iterable[Goal],
) -> list[Row]:
    cpu: dict[str, list[Sample]] = {name: [] for name in pairs}

    def turn(name: str, server: _Process, client: _Process) -> Callable[[], Sample]:
        def measure() -> Sample:
            before_s = server.cpu_s() + client.cpu_s()
            result = json.loads(client.ask(f"{in_flight} {seconds}"))
            used_s = server.cpu_s() + client.cpu_s() - before_s
            cpu[name].append(Sample(used_s / (result["per_s"] * seconds) * 1e6))
            return Sample(result["per_s"], result["p50_ms"], result["p99_ms"])

        return measure

    rates = take_turns({name: turn(name, *pair) for name, pair in pairs.items()}, rounds=rounds)
    beside = beside if beside in pairs else None
    warm = {name: samples[-rounds:] for name, samples in cpu.items()}
    reachable = [goal for goal in goals if {goal.name, goal.of} <= pairs.keys()]
    return [
        *compare("calls", rates, in_flight=in_flight, beside=beside, goals=reachable),
        *compare("CPU of a call, both ends", warm, in_flight=in_flight, unit="µs", beside=beside),
    ]


def run(quick: bool = False, only: Iterable[str] = CANDIDATES) -> list[Row]:
    """Measure all candidates, or some."""
    with TemporaryDirectory() as folder:
        return compare_programs(dict.fromkeys(only, folder), beside="raw", goals=GOALS, quick=quick)


def _main() -> None:
    match sys.argv[1:]:
        case ["--serve", name, folder]:
            _serve(name, folder)
        case ["--call", name, address]:
            _call(name, address)
        case arguments:
            main(TITLE, run, arguments)


if __name__ == "__main__":
    _main()
