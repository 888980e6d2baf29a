"""Retry storm: the server was away for a moment, and is overloaded for ever after.

What goes wrong: requests pile up while the server stands still. When it is back, it works on requests whose
clients have given up and asked again. It is busy all the time, every answer comes too late, and
each late answer makes more requests. The cause is gone, the effect keeps itself alive.

Textbook: metastable failure (Bronson and others, Metastable failures in distributed systems, 2021).

Repair: a retry budget. Retries may be a tenth of the requests, so the load stays below what the server can
do, whatever happens, and the queue drains.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import Any

from bug_kit import me, weather

from coterie.simulation import Violation, World

EVERY_S = 0.05
SERVICE_S = 0.025
"""The server is busy for half of the time, as long as nobody asks twice."""
TIMEOUT_S = 0.5
ATTEMPTS = 4
STORM_S = 8.0
GRACE_S = 20.0


class Server(asyncio.DatagramProtocol):
    """Answers one request at a time, in the order in which they came."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.waiting.put_nowait((data, addr))


async def serve() -> None:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Server, local_addr=("0.0.0.0", 53))
    while True:
        data, address = await server.waiting.get()
        await asyncio.sleep(SERVICE_S)
        transport.sendto(data, address)


class Unlimited:
    """What a retry costs when nobody counts."""

    def request(self) -> None: ...

    def may_retry(self) -> bool:
        return True


class Budget(Unlimited):
    """A token bucket: a request puts in a tenth of what a retry takes out."""

    def __init__(self) -> None:
        self.tokens = 5.0

    def request(self) -> None:
        self.tokens = min(self.tokens + 0.1, 5.0)

    def may_retry(self) -> bool:
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Client(asyncio.DatagramProtocol):
    """Makes requests, each repeated until it has its answer, has no attempt left, or has no budget."""

    def __init__(self, budget: Unlimited, answered: dict[float, bool]) -> None:
        self.budget = budget
        self.answered = answered
        """Whether the request that was made at a time was answered."""
        self.pending: dict[bytes, asyncio.Future[None]] = {}

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data in self.pending and not self.pending[data].done():
            self.pending[data].set_result(None)

    async def request(self, transport: asyncio.DatagramTransport, name: str, made_at_s: float) -> None:
        self.answered[made_at_s] = False
        self.budget.request()
        loop = asyncio.get_running_loop()
        for attempt in range(ATTEMPTS):
            if attempt and not self.budget.may_retry():
                return
            data = f"{name}/{attempt}".encode()
            answer = self.pending[data] = loop.create_future()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    found = await loop.getaddrinfo("server", 53, type=socket.SOCK_DGRAM)
                    transport.sendto(data, found[0][4])
                    await answer
            except OSError:  # TimeoutError is one.
                continue
            finally:
                del self.pending[data]
            self.answered[made_at_s] = True
            return


async def play(world: World, budget: Unlimited) -> None:
    answered: dict[float, bool] = {}

    async def ask_for_ever() -> None:
        transport, client = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Client(budget, answered), local_addr=("0.0.0.0", 0)
        )
        async with asyncio.TaskGroup() as requests:
            for number in itertools.count():
                requests.create_task(client.request(transport, f"{me()}/{number}", world.time))
                await asyncio.sleep(EVERY_S)

    await world.start("server", serve)
    await world.start("client", ask_for_ever)
    await weather(world, STORM_S)
    await asyncio.sleep(GRACE_S)
    calm_s = world.time
    await asyncio.sleep(5.0)
    recent = [good for made_at_s, good in answered.items() if calm_s - 5.0 < made_at_s < calm_s]
    if sum(recent) < 0.9 * len(recent) or len(recent) < 0.9 * 5.0 / EVERY_S:
        share = f"{sum(recent)} of {len(recent)} requests"
        sentence = f"{GRACE_S:.0f} s after the last fault only {share} are answered"
        raise Violation(sentence, promise="load that can be served is served")


async def broken(world: World) -> None:
    await play(world, Unlimited())


async def repaired(world: World) -> None:
    await play(world, Budget())
