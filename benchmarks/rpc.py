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

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from struct import Struct
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped]

from coterie import App

__all__ = ["run"]

HOST = "127.0.0.1"
Call = Callable[["Order"], Awaitable["Receipt"]]


@dataclass(frozen=True)
class Order:
    id: str
    sku: str
    quantity: int
    amount: int


@dataclass(frozen=True)
class Receipt:
    order: str
    total: int
    paid: bool


ORDER = Order("order-000001", "green-tea", 2, 1990)
RECEIPT = Receipt("order-000001", 3980, True)

app = App("bench")


@app.service
class Shop:
    """The service."""

    async def buy(self, order: Order) -> Receipt:
        """Sell the order."""
        return Receipt(order.id, order.quantity * order.amount, True)


shop = app.client(Shop)


# Coterie


async def serve_coterie(folder: str) -> str:
    from coterie.node import Node, NodeConfig

    await Node(app, NodeConfig(engine=f"sqlite:///{folder}/bench.db", http="off")).start()
    return f"sqlite:///{folder}/bench.db"


@asynccontextmanager
async def call_coterie(engine: str) -> AsyncIterator[Call]:
    async with app.connect(engine):
        yield shop.buy


# The raw limit

PREFIX = Struct(">I")


class Asked(msgspec.Struct, array_like=True, gc=False):
    id: int
    order: Order


class Answered(msgspec.Struct, array_like=True, gc=False):
    id: int
    receipt: Receipt


class Raw(asyncio.Protocol):
    """Frames in; frames of one iteration of the loop out in one write."""

    def __init__(self, message: type[Asked | Answered]) -> None:
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(message).decode
        self.buffer = b""
        self.out: list[bytes] = []
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        position, length = 0, len(data)
        while position + 4 <= length:
            end = position + 4 + PREFIX.unpack_from(data, position)[0]
            if end > length:
                break
            self.received(self.decode(data[position + 4 : end]))
            position = end
        self.buffer = data[position:]

    def received(self, message: Any) -> None:
        raise NotImplementedError

    def send(self, message: Asked | Answered) -> None:
        frame = self.encode(message)
        if not self.out:
            self.loop.call_soon(self.flush)
        self.out += (PREFIX.pack(len(frame)), frame)

    def flush(self) -> None:
        self.transport.write(b"".join(self.out))
        self.out.clear()


class RawServer(Raw):
    def __init__(self, naive: bool) -> None:
        super().__init__(Asked)
        self.shop = Shop()
        self.tasks: set[asyncio.Task[None]] = set()
        if naive:
            self.received = self.received_naively  # type: ignore[method-assign]

    def received(self, message: Any) -> None:
        try:
            self.shop.buy(message.order).send(None)
        except StopIteration as done:
            self.send(Answered(message.id, done.value))

    def received_naively(self, message: Asked) -> None:
        task = asyncio.create_task(self.answer(message))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def answer(self, message: Asked) -> None:
        async with asyncio.timeout(5):
            self.send(Answered(message.id, await self.shop.buy(message.order)))


class RawClient(Raw):
    def __init__(self) -> None:
        super().__init__(Answered)
        self.pending: dict[int, asyncio.Future[Receipt]] = {}
        self.last = 0

    async def call(self, order: Order) -> Receipt:
        self.last = id_ = self.last + 1
        future: asyncio.Future[Receipt] = self.loop.create_future()
        self.pending[id_] = future
        self.send(Asked(id_, order))
        return await future

    def received(self, message: Any) -> None:
        self.pending.pop(message.id).set_result(message.receipt)

    async def call_naively(self, order: Order) -> Receipt:
        return await asyncio.wait_for(self.call(order), 5)


async def serve_raw(_folder: str, *, naive: bool = False) -> str:
    server = await asyncio.get_running_loop().create_server(lambda: RawServer(naive), HOST, 0)
    await server.start_serving()
    return str(server.sockets[0].getsockname()[1])


@asynccontextmanager
async def call_raw(port: str, *, naive: bool = False) -> AsyncIterator[Call]:
    _, client = await asyncio.get_running_loop().create_connection(RawClient, HOST, int(port))
    yield client.call_naively if naive else client.call
    client.transport.close()


# gRPC, without generated code: what protoc would write is built from the same descriptors.


def _messages() -> tuple[Any, Any]:
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    types = {str: 9, int: 3, bool: 8}
    fields: dict[str, list[tuple[str, type]]] = {
        "Order": [("id", str), ("sku", str), ("quantity", int), ("amount", int)],
        "Receipt": [("order", str), ("total", int), ("paid", bool)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(members, 1):
            message.field.add(name=field, number=number, type=types[kind], label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    classes = [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"bench.{n}")) for n in fields]
    return classes[0], classes[1]


async def serve_grpc(_folder: str) -> str:
    import grpc

    order_type, receipt_type = _messages()
    service = Shop()

    async def buy(request: Any, _context: Any) -> Any:
        order = Order(request.id, request.sku, request.quantity, request.amount)
        receipt = await service.buy(order)
        return receipt_type(order=receipt.order, total=receipt.total, paid=receipt.paid)

    method = grpc.unary_unary_rpc_method_handler(
        buy,
        request_deserializer=order_type.FromString,
        response_serializer=receipt_type.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Shop", {"buy": method}),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    _KEPT.append(server)
    return str(port)


@asynccontextmanager
async def call_grpc(port: str) -> AsyncIterator[Call]:
    import grpc

    order_type, receipt_type = _messages()
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        method = channel.unary_unary(
            "/bench.Shop/buy",
            request_serializer=order_type.SerializeToString,
            response_deserializer=receipt_type.FromString,
        )

        async def call(order: Order) -> Receipt:
            request = order_type(id=order.id, sku=order.sku, quantity=order.quantity, amount=order.amount)
            reply = await method(request)
            return Receipt(reply.order, reply.total, reply.paid)

        yield call


# JSON over HTTP with aiohttp


async def serve_aiohttp(_folder: str) -> str:
    from aiohttp import web

    service = Shop()

    async def buy(request: web.Request) -> web.Response:
        return web.json_response(asdict(await service.buy(Order(**await request.json()))))

    application = web.Application()
    application.router.add_post("/Shop/buy", buy)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    return str(runner.addresses[0][1])


@asynccontextmanager
async def call_aiohttp(port: str) -> AsyncIterator[Call]:
    import aiohttp

    url = f"http://{HOST}:{port}/Shop/buy"
    async with aiohttp.ClientSession() as session:

        async def call(order: Order) -> Receipt:
            async with session.post(url, json=asdict(order)) as response:
                return Receipt(**await response.json())

        yield call


# Pyro5, which answers with threads and is called from threads


def serve_pyro() -> None:
    import Pyro5.api

    Pyro5.config.THREADPOOL_SIZE = 100
    service = Shop()

    class Exposed:
        @Pyro5.api.expose  # type: ignore[untyped-decorator]
        def buy(self, order: dict[str, Any]) -> dict[str, Any]:
            try:
                service.buy(Order(**order)).send(None)
            except StopIteration as done:
                return asdict(done.value)
            raise AssertionError

    daemon = Pyro5.api.Daemon(host=HOST)
    _say(str(daemon.register(Exposed())))
    daemon.requestLoop()


def load_pyro(uri: str, in_flight: int, seconds: float) -> list[list[float]]:
    import Pyro5.api

    moments: list[list[float]] = [[] for _ in range(in_flight)]
    together = threading.Barrier(in_flight)

    def work(mine: list[float]) -> None:
        with Pyro5.api.Proxy(uri) as proxy:
            assert Receipt(**proxy.buy(asdict(ORDER))) == RECEIPT
            together.wait()
            end = time.perf_counter() + seconds
            mine.append(time.perf_counter())
            while mine[-1] < end:
                Receipt(**proxy.buy(asdict(ORDER)))
                mine.append(time.perf_counter())

    threads = [threading.Thread(target=work, args=(mine,)) for mine in moments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return moments


# The measurement

_KEPT: list[Any] = []  # grpc's server is stopped when nobody holds it.

SERVERS: dict[str, Callable[[str], Awaitable[str]]] = {
    "coterie": serve_coterie,
    "raw": serve_raw,
    "raw, naive": partial(serve_raw, naive=True),
    "grpc.aio": serve_grpc,
    "aiohttp": serve_aiohttp,
}
CLIENTS: dict[str, Callable[[str], Any]] = {
    "coterie": call_coterie,
    "raw": call_raw,
    "raw, naive": partial(call_raw, naive=True),
    "grpc.aio": call_grpc,
    "aiohttp": call_aiohttp,
}
CANDIDATES = (*SERVERS, "Pyro5")


async def _load(call: Call, in_flight: int, seconds: float) -> list[list[float]]:
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


def _summary(moments: list[list[float]]) -> dict[str, float]:
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
        serve_pyro()
        return

    async def main() -> None:
        _say(await SERVERS[name](folder))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=_loop_factory) as runner:
        runner.run(main())


def _call(name: str, address: str) -> None:
    """Answer each line `in_flight seconds` of the standard input with what was measured."""
    if name == "Pyro5":
        for line in sys.stdin:
            in_flight, seconds = line.split()
            _say(json.dumps(_summary(load_pyro(address, int(in_flight), float(seconds)))))
        return

    async def main() -> None:
        async with CLIENTS[name](address) as call:
            assert await call(ORDER) == RECEIPT
            while line := await asyncio.to_thread(sys.stdin.readline):
                in_flight, seconds = line.split()
                _say(json.dumps(_summary(await _load(call, int(in_flight), float(seconds)))))

    with asyncio.Runner(loop_factory=_loop_factory) as runner:
        runner.run(main())


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


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


def run(quick: bool = False, only: Iterable[str] = CANDIDATES) -> dict[str, Any]:
    """Measure all candidates; return calls a second, latencies and ratios by candidate and load."""
    rounds, seconds = (3, 0.5) if quick else (7, 2.0)
    pairs: dict[str, tuple[_Process, _Process]] = {}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        for name in only:
            server = _Process("--serve", name, folder)
            stack.callback(server.close)
            client = _Process("--call", name, server.line())
            stack.callback(client.close)
            pairs[name] = server, client
        return {f"{n} in flight": _measure(pairs, n, rounds, seconds) for n in (1, 64)}


def _measure(
    pairs: dict[str, tuple[_Process, _Process]], in_flight: int, rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in pairs}
    for _, client in pairs.values():
        client.ask(f"{in_flight} 0.3")
    for _ in range(rounds):
        for name, (server, client) in pairs.items():
            before_s = server.cpu_s() + client.cpu_s()
            result = json.loads(client.ask(f"{in_flight} {seconds}"))
            used_s = server.cpu_s() + client.cpu_s() - before_s
            measured[name].append(result | {"cpu_us": used_s / (result["per_s"] * seconds) * 1e6})
    table: dict[str, dict[str, Any]] = {}
    for name, results in measured.items():
        rates = [result["per_s"] for result in results]
        table[name] = {
            "per_s": round(statistics.median(rates)),
            "spread": f"{min(rates):,.0f} to {max(rates):,.0f}",
            "p50_ms": _median(results, "p50_ms"),
            "p99_ms": _median(results, "p99_ms"),
            "cpu_us": _median(results, "cpu_us"),
        }
    base = table.get("coterie")
    for row in table.values():
        row["coterie_ratio"] = None if base is None else round(base["per_s"] / row["per_s"], 2)
        row["cpu_ratio"] = None if base is None else round(row["cpu_us"] / base["cpu_us"], 2)
    return table


def _median(results: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(result[name] for result in results), 3)


def _show(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("by", "calls/s", "spread", "p50 ms", "p99 ms", "CPU µs", "coterie: calls/s", "per CPU")
    for load, rows in results.items():
        table.add_row(f"[bold]{load}")
        for name, row in rows.items():
            ratios = ["" if row[key] is None else f"{row[key]:g} x" for key in ("coterie_ratio", "cpu_ratio")]
            times = [f"{row[key]:g}" for key in ("p50_ms", "p99_ms", "cpu_us")]
            table.add_row(name, f"{row['per_s']:,}", row["spread"], *times, *ratios)
        table.add_section()
    Console().print(table)


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=CANDIDATES, help="leave others out")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve(*options.serve)
    elif options.call:
        _call(*options.call)
    else:
        results = run(options.quick, options.only)
        if options.json:
            sys.stdout.write(json.dumps(results, indent=2) + "\n")
        else:
            _show(results)


if __name__ == "__main__":
    _main()
