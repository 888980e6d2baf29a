"""POST of a small dataclass over HTTP: the gateway beside FastAPI, aiohttp and raw ASGI on uvicorn.

    python -m benchmarks.http [--quick] [--json]

Each server runs in a process of its own and does the same work: it parses and checks an order, and
answers with its receipt. The client speaks just enough HTTP/1.1 that it is not what is measured.
The gateway's backend calls the service directly: this measures HTTP, not routing between nodes.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from coterie.context import Metadata
from coterie.services.spec import MethodSpec, ServiceSpec, describe

from ._harness import Goal, Row, Sample, compare, loop_factory, main, take_turns, worker

__all__ = ["TITLE", "run"]

TITLE = "POST of a small dataclass over HTTP"
HOST = "127.0.0.1"
BODY = b'{"order":{"id":"order-000001","sku":"green-tea","quantity":2,"amount":1990}}'
EXPECTED = b'"receipt-order-000001"'
REQUEST = (
    b"POST /Shop/buy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


@dataclass(frozen=True)
class Order:
    id: str
    sku: str
    quantity: int
    amount: int


class Shop:
    """The service."""

    async def buy(self, order: Order) -> str:
        """Sell the order."""
        return f"receipt-{order.id}"


class Backend:
    """Calls the service where it stands."""

    def __init__(self) -> None:
        from coterie.engines.system import SystemEntropy
        from coterie.services.registry import ErrorRegistry

        self.name = "bench"
        self.app_name = "shop"
        self.shop = Shop()
        self.services: Mapping[str, ServiceSpec] = {"Shop": describe(Shop)}
        self.errors = ErrorRegistry()
        self.entropy = SystemEntropy()

    async def invoke(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> Any:
        return await self.shop.buy(arguments.order)

    def stream(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> AsyncIterator[Any]:
        raise NotImplementedError

    def ready(self) -> list[str]:
        return []

    def collect(self) -> Iterable[Any]:
        return []


async def serve_gateway() -> int:
    from coterie.engines.system import SystemClock
    from coterie.gateway import GatewayConfig, HttpServer

    server = HttpServer(Backend(), GatewayConfig(address=f"{HOST}:0"), clock=SystemClock())
    await server.start()
    return int(server.address.rpartition(":")[2])


async def serve_fastapi() -> int:
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        order: Order

    app = FastAPI()

    async def buy(body: Body) -> str:
        return f"receipt-{body.order.id}"

    buy.__annotations__["body"] = Body  # A class of this function cannot be found by its name.
    app.post("/Shop/buy")(buy)
    return await _uvicorn(app)


async def serve_raw() -> int:
    import msgspec

    class Body(msgspec.Struct):
        order: Order

    decode = msgspec.json.Decoder(Body).decode
    head = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(EXPECTED))],
    }

    async def app(
        scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        body = decode((await receive())["body"])
        await send(head)
        result = msgspec.json.encode(f"receipt-{body.order.id}")
        await send({"type": "http.response.body", "body": result})

    return await _uvicorn(app)


async def serve_aiohttp() -> int:
    from aiohttp import web

    async def buy(request: web.Request) -> web.Response:
        order = Order(**(await request.json())["order"])
        if not isinstance(order.quantity, int):
            raise web.HTTPBadRequest
        return web.json_response(f"receipt-{order.id}")

    app = web.Application()
    app.router.add_post("/Shop/buy", buy)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    return int(runner.addresses[0][1])


async def _uvicorn(app: Any) -> int:
    import uvicorn

    listening = socket.create_server((HOST, 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    _KEPT.append(asyncio.create_task(uvicorn.Server(config).serve(sockets=[listening])))
    return int(listening.getsockname()[1])


_KEPT: list[asyncio.Task[None]] = []  # The loop holds its tasks only weakly.

SERVERS: dict[str, Callable[[], Awaitable[int]]] = {
    "coterie": serve_gateway,
    "fastapi": serve_fastapi,
    "aiohttp": serve_aiohttp,
    "raw asgi": serve_raw,
}


class Client(asyncio.Protocol):
    """Sends the request, and again whenever the answer has come, until it is told to stop."""

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._buffer = b""
        self.answers = 0
        self.latencies_s: list[float] = []
        self.running = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.endswith(EXPECTED):
            if b"\r\n\r\n" in self._buffer and not self._buffer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not the expected answer: {self._buffer!r}")
            return
        self._buffer = b""
        self.answers += 1
        self.latencies_s.append(time.perf_counter() - self._sent)
        if self.running:
            self.send()
        else:
            self._done()

    def close(self) -> None:
        self._transport.close()


async def _load(port: int, in_flight: int, seconds: float) -> Sample:
    """Return requests a second, with their latencies."""
    loop = asyncio.get_running_loop()
    left = in_flight
    finished = asyncio.Event()

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    clients = [(await loop.create_connection(lambda: Client(done), HOST, port))[1] for _ in range(in_flight)]
    started = time.perf_counter()
    for client in clients:
        client.send()
    await asyncio.sleep(seconds)
    for client in clients:
        client.running = False
    await finished.wait()
    elapsed = time.perf_counter() - started
    for client in clients:
        client.close()
    rate = sum(client.answers for client in clients) / elapsed
    return Sample.of(rate, [latency for client in clients for latency in client.latencies_s])


def run(quick: bool = False) -> list[Row]:
    """Measure all servers with one and with 64 requests in flight."""
    rounds, seconds = (3, 0.6) if quick else (7, 2.0)
    with ExitStack() as stack:
        ports = {name: int(stack.enter_context(worker("http", "--serve", name))[1]) for name in SERVERS}
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory))

        def load(port: int, in_flight: int) -> Callable[[], Sample]:
            return lambda: runner.run(_load(port, in_flight, seconds))

        rows = []
        for in_flight in (1, 64):
            candidates = {name: load(port, in_flight) for name, port in ports.items()}
            samples = take_turns(candidates, rounds=rounds)
            goals = [Goal("coterie", of="fastapi", at_least=1.0)] if in_flight > 1 else []
            rows += compare("POST", samples, in_flight=in_flight, beside="raw asgi", goals=goals)
        return rows


def _serve(name: str) -> None:
    async def serve() -> None:
        port = await SERVERS[name]()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())


def _main() -> None:
    match sys.argv[1:]:
        case ["--serve", name]:
            _serve(name)
        case arguments:
            main(TITLE, run, arguments)


if __name__ == "__main__":
    _main()
