"""What policies cost: around a local call that does nothing, and on calls between processes.

    python -m benchmarks.resilience [--quick] [--json]

The first part is what each way to survive adds to `await nothing()`, the bare call taken off, and to a call
that waits for one turn of the loop, as every real one does: then a deadline costs a timer. `coterie` is a
`Guard` with the default policy: a deadline, repeats within a budget, a breaker; `listened to` is the same
with somebody who takes its events. The others do one of these, or, as is usually done, two: a decorator that
repeats around a breaker. None of them has a deadline or a budget.

The second part is calls between two processes with 64 in flight, under the default policy, under one that
has a rate, a limit and a timeout of each attempt as well, and under `Policy.none()`: processor time of both
ends a call, which depends on nothing but the work, and calls a second. Candidates take turns within a
round; medians over rounds.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

import psutil  # type: ignore[import-untyped]

from coterie import Policy
from coterie.resilience import Guard, PolicyEvent, Rate

from ._harness import Goal, Row, Sample, compare, loop_factory, main, take_turns, worker
from ._rpc_peers import ORDER, RECEIPT, Shop, app
from .rpc import load, summary

__all__ = ["TITLE", "run"]

TITLE = "What policies cost"
PAIRS = tuple(f"{r} + {b}" for r in ("tenacity", "stamina") for b in ("pybreaker", "aiobreaker", "purgatory"))
CHEAPEST = ("tenacity + aiobreaker", "stamina + aiobreaker")
POLICIES = {
    "default policy": Policy(),
    "with rate and limit": Policy(rate=Rate(rate=1e6, burst=1_000_000), limit=1000, attempt_timeout_s=2.0),
    "Policy.none()": Policy.none(),
}
Nothing = Callable[[], Coroutine[Any, Any, None]]


async def nothing() -> None:
    """Do nothing."""


async def waits() -> None:
    """Wait for one turn of the loop."""
    await asyncio.sleep(0)


def with_coterie(function: Nothing) -> Nothing:
    guard = Guard(name="nothing")
    return guard.wrap(idempotent=True)(function)


def with_listener(function: Nothing) -> Nothing:
    heard: deque[PolicyEvent] = deque(maxlen=1)
    guard = Guard(name="nothing", listener=heard.append)
    return guard.wrap(idempotent=True)(function)


def with_tenacity(function: Nothing) -> Nothing:
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    decorate = retry(
        stop=stop_after_attempt(3),
        wait=wait_random_exponential(multiplier=0.02, max=1),
        retry=retry_if_exception_type(ConnectionError),
        reraise=True,
    )
    wrapped: Nothing = decorate(function)
    return wrapped


def with_stamina(function: Nothing) -> Nothing:
    import stamina

    decorate = stamina.retry(on=ConnectionError, attempts=3, timeout=5.0)
    wrapped: Nothing = decorate(function)
    return wrapped


def with_pybreaker(function: Nothing) -> Nothing:
    import pybreaker

    # Its own call_async needs Tornado; the context manager works around any await.
    breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=1)

    async def wrapped() -> None:
        with breaker.calling():
            await function()

    return wrapped


def with_aiobreaker(function: Nothing) -> Nothing:
    import aiobreaker  # type: ignore[import-untyped]

    breaker = aiobreaker.CircuitBreaker(fail_max=5, timeout_duration=dt.timedelta(seconds=1))

    async def wrapped() -> None:
        await breaker.call_async(function)

    return wrapped


def with_purgatory(function: Nothing) -> Nothing:
    from purgatory import AsyncCircuitBreakerFactory

    factory = AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=1)

    async def wrapped() -> None:
        async with await factory.get_breaker("nothing"):
            await function()

    return wrapped


WRAPPERS: dict[str, Callable[[Nothing], Nothing]] = {
    "coterie": with_coterie,
    "coterie, listened to": with_listener,
    "tenacity": with_tenacity,
    "stamina": with_stamina,
    "pybreaker": with_pybreaker,
    "aiobreaker": with_aiobreaker,
    "purgatory": with_purgatory,
}


def wrapped(name: str, function: Nothing = nothing) -> Nothing:
    """Return `function` under what `name` says, from the outside in."""
    for each in reversed(name.split(" + ")):
        function = WRAPPERS[each](function)
    return function


async def _took_ns(function: Nothing, calls: int) -> float:
    began = time.perf_counter_ns()
    for _ in range(calls):
        await function()
    return (time.perf_counter_ns() - began) / calls


async def _overhead_us(function: Nothing, calls: int, bare_call: Nothing = nothing) -> Sample:
    await _took_ns(function, calls // 10)
    bare = await _took_ns(bare_call, calls)
    return Sample((await _took_ns(function, calls) - bare) / 1000)


def _local(
    runner: asyncio.Runner,
    call: Nothing,
    names: Iterable[str],
    goals: Sequence[Goal],
    *,
    rounds: int,
    calls: int,
) -> list[Row]:
    functions = {name: wrapped(name, call) for name in names}

    def turn(function: Nothing) -> Callable[[], Sample]:
        return lambda: runner.run(_overhead_us(function, calls, call))

    samples = take_turns({name: turn(function) for name, function in functions.items()}, rounds=rounds)
    part = "added to a local call" if call is nothing else "added to one that waits"
    return compare(part, samples, unit="µs", goals=goals)


class _Caller:
    """A process that calls under one policy, and the server that it calls."""

    def __init__(self, process: subprocess.Popen[str], server: subprocess.Popen[str]) -> None:
        self._process = process
        self._both = (psutil.Process(process.pid), psutil.Process(server.pid))
        self.cpu: list[Sample] = []

    def measure(self, in_flight: int, seconds: float) -> Sample:
        assert self._process.stdin
        assert self._process.stdout
        before_s = self._cpu_s()
        self._process.stdin.write(f"{in_flight} {seconds}\n")
        self._process.stdin.flush()
        result = json.loads(self._process.stdout.readline())
        used_s = self._cpu_s() - before_s
        self.cpu.append(Sample(used_s / (result["per_s"] * seconds) * 1e6))
        return Sample(result["per_s"], result["p50_ms"], result["p99_ms"])

    def _cpu_s(self) -> float:
        return float(sum(sum(process.cpu_times()[:2]) for process in self._both))


def _remote(*, rounds: int, seconds: float, in_flight: int = 64) -> list[Row]:
    with TemporaryDirectory() as folder, worker("rpc", "--serve", "coterie", folder) as (server, address):
        first, *_, none = POLICIES
        with ExitStack() as stack:
            callers = {
                name: _Caller(stack.enter_context(worker("resilience", "--call", name, address))[0], server)
                for name in POLICIES
            }

            def turn(caller: _Caller) -> Callable[[], Sample]:
                return lambda: caller.measure(in_flight, seconds)

            rates = take_turns({name: turn(caller) for name, caller in callers.items()}, rounds=rounds)
            cpu = {name: caller.cpu[-rounds:] for name, caller in callers.items()}
    return [
        *compare("calls", rates, in_flight=in_flight, beside=none),
        *compare(
            "CPU of a call, both ends",
            cpu,
            in_flight=in_flight,
            unit="µs",
            beside=none,
            goals=[Goal(first, of=none, at_most=1.1)],
        ),
    ]


def run(quick: bool = False) -> list[Row]:
    """Measure what policies add."""
    rounds, calls, seconds = (3, 5_000, 0.5) if quick else (9, 30_000, 1.5)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        goals = [Goal("coterie", of=pair, at_most=0.2) for pair in CHEAPEST]
        rows = _local(runner, nothing, (*WRAPPERS, *PAIRS), goals, rounds=rounds, calls=calls)
        rows += _local(
            runner, waits, ("coterie", "coterie, listened to", *CHEAPEST), (), rounds=rounds, calls=calls
        )
    return rows + _remote(rounds=rounds, seconds=seconds)


async def _call(name: str, engine: str) -> None:
    shop: Any = app.client(Shop, policy=POLICIES[name])
    async with app.connect(engine):
        assert await shop.buy(ORDER) == RECEIPT
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            in_flight, seconds = line.split()
            result = summary(await load(shop.buy, int(in_flight), float(seconds)))
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()


def _main() -> None:
    match sys.argv[1:]:
        case ["--call", name, engine]:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(_call(name, engine))
        case arguments:
            main(TITLE, run, arguments)


if __name__ == "__main__":
    _main()
