"""The programs that `benchmarks.rpc` compares: each with a server and a client of one small call."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from struct import Struct
from typing import Any

import msgspec

from coterie import App

__all__ = ["CANDIDATES", "CLIENTS", "ORDER", "RECEIPT", "SERVERS", "Call", "load_pyro", "serve_pyro"]

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


async def serve_coterie_nats(url: str) -> str:
    from coterie.node import Node, NodeConfig

    await Node(app, NodeConfig(engine=url, wire=url, http="off")).start()
    return url


@asynccontextmanager
async def call_coterie_nats(url: str) -> AsyncIterator[Call]:
    from coterie.node import NodeConfig

    async with app.connect(config=NodeConfig(engine=url, wire=url)):
        yield shop.buy


# The plain client of NATS, with msgpack as we have it

SUBJECT = "bench.buy"


async def serve_nats(url: str) -> str:
    import nats
    from nats.aio.msg import Msg

    service = Shop()
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Order).decode

    async def buy(message: Msg) -> None:
        await message.respond(encode(await service.buy(decode(message.data))))

    client = await nats.connect(url)
    await client.subscribe(SUBJECT, cb=buy)
    await client.flush()
    return url


@asynccontextmanager
async def call_nats(url: str) -> AsyncIterator[Call]:
    import nats

    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Receipt).decode
    client = await nats.connect(url)

    async def call(order: Order) -> Receipt:
        return decode((await client.request(SUBJECT, encode(order), timeout=10)).data)

    try:
        yield call
    finally:
        await client.close()


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


def serve_pyro(say: Callable[[str], None]) -> None:
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
    say(str(daemon.register(Exposed())))
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
    "coterie, NATS": serve_coterie_nats,
    "nats-py": serve_nats,
}
CLIENTS: dict[str, Callable[[str], Any]] = {
    "coterie": call_coterie,
    "raw": call_raw,
    "raw, naive": partial(call_raw, naive=True),
    "grpc.aio": call_grpc,
    "aiohttp": call_aiohttp,
    "coterie, NATS": call_coterie_nats,
    "nats-py": call_nats,
}
CANDIDATES = ("coterie", "raw", "raw, naive", "grpc.aio", "aiohttp", "Pyro5")
