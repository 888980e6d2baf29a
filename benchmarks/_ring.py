"""A ring of tasks on one event loop: run by `benchmarks.simulation` with whatever Python has the loop.

    python _ring.py NAME PASSES

Prints passes per second of CPU time. A pass is: take a token from the own queue, sleep for a
millisecond, put the token into the queue of the next task. It stands alone, so that an interpreter
without Coterie can run it.
"""

from __future__ import annotations

import asyncio
import importlib
import selectors
import sys
import time
from collections.abc import Callable
from typing import Any

TASKS = 100
SLEEP_S = 0.001


async def ring(passes: int) -> None:
    """Let as many tokens as there are tasks go around, until there were so many passes."""
    queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(TASKS)]
    done = asyncio.Event()
    left = passes

    async def member(index: int) -> None:
        nonlocal left
        mine, following = queues[index], queues[(index + 1) % TASKS]
        while True:
            token = await mine.get()
            await asyncio.sleep(SLEEP_S)
            left -= 1
            if left <= 0:
                done.set()
                return
            following.put_nowait(token)

    tasks = [asyncio.ensure_future(member(index)) for index in range(TASKS)]
    for number, queue in enumerate(queues):
        queue.put_nowait(number)
    await done.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _peer(name: str) -> Any:
    """Return a peer's package, which is there or not."""
    return importlib.import_module(name)


def stock(passes: int) -> None:
    asyncio.run(ring(passes))


def bare(passes: int) -> None:
    """asyncio's own loop with a clock that jumps: no trace, no hosts, nothing. The raw limit."""

    class Selector(selectors.DefaultSelector):
        now = 0.0

        def select(self, timeout: float | None = None) -> list[Any]:
            self.now += timeout or 0.0
            return super().select(0) if timeout is None else []

    selector = Selector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(ring(passes))
    finally:
        loop.close()


def coterie(passes: int) -> None:
    from coterie.simulation import World, run

    async def main(world: World) -> None:
        async def host() -> None:
            await ring(passes)

        await world.start("a", host)
        await world.wait("a")
        assert int(world.digest(), 16)

    run(main, seed=1)


def simloop(passes: int) -> None:
    peer = _peer("simloop")

    loop = peer.SimLoop(seed=1)
    loop.run_until_complete(ring(passes))
    loop.close()


def simloom(passes: int) -> None:
    peer = _peer("simloom")

    async def main() -> None:
        await ring(passes)

    peer.run(main, seed=1)


def detangle(passes: int) -> None:
    peer = _peer("detangle")

    peer.run(lambda: ring(passes), seed=1, trace=True, config=peer.SimConfig(max_steps=1 << 40))


def seedloop(passes: int) -> None:
    peer = _peer("seedloop")

    async def scenario(world: Any) -> None:
        await ring(passes)

    peer.replay(scenario, seed=1)


def simpy(passes: int) -> None:
    """Generators in place of coroutines: another way to simulate, which runs no asyncio program."""
    peer = _peer("simpy")

    environment = peer.Environment()
    stores = [peer.Store(environment) for _ in range(TASKS)]
    done = environment.event()
    left = passes

    def member(index: int) -> Any:
        nonlocal left
        while True:
            token = yield stores[index].get()
            yield environment.timeout(SLEEP_S)
            left -= 1
            if left == 0:
                done.succeed()
            stores[(index + 1) % TASKS].put(token)

    for index, store in enumerate(stores):
        environment.process(member(index))
        store.put(index)
    environment.run(until=done)


LOOPS: dict[str, Callable[[int], None]] = {
    each.__name__: each for each in (coterie, stock, bare, simloop, simloom, detangle, seedloop, simpy)
}


if __name__ == "__main__":
    _, name, count = sys.argv
    LOOPS[name](1000)  # What is imported and compiled on the way is not what is measured.
    began = time.process_time()
    LOOPS[name](int(count))
    sys.stdout.write(f"{int(count) / (time.process_time() - began)}\n")
