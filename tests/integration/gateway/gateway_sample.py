"""A program with services of every kind, and a backend that runs them in this process."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import decimal
import enum
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import pydantic

from coterie.context import Metadata
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Fenced,
    NotFound,
    Overloaded,
    PermissionDenied,
    RemoteError,
    Unavailable,
)
from coterie.gateway import HttpServer
from coterie.services.registry import ErrorRegistry
from coterie.services.spec import MethodSpec, ServiceSpec, describe
from coterie.telemetry import Family, gauge

__all__ = ["Raw", "SampleBackend", "Serve", "SystemClock", "eventually"]

Serve = Callable[..., Awaitable[HttpServer]]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Order:
    """What a buyer wants."""

    id: str
    sku: str
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    colour: Colour = Colour.RED
    tags: list[str] = field(default_factory=list)


class Line(pydantic.BaseModel):
    sku: str
    price: decimal.Decimal


class Invoice(pydantic.BaseModel):
    """A pydantic model with another one inside."""

    number: int
    lines: list[Line] = []
    parent: Invoice | None = None


class SoldOut(Exception):
    """There is not enough."""


class Shop:
    """Sells what is in stock."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.seen: Metadata | None = None

    async def buy(self, order: Order, gift: bool = False) -> str:
        """Sell the order.

        Returns its receipt.
        """
        if order.sku == "none":
            raise SoldOut(order.sku)
        return f"receipt-{order.id}{'-gift' if gift else ''}"

    async def invoice(self, invoice: Invoice) -> Invoice:
        """Return the invoice with a line more."""
        return invoice.model_copy(update={"lines": [*invoice.lines, Line(sku="x", price=decimal.Decimal(1))]})

    async def everything(
        self,
        when: dt.datetime,
        key: uuid.UUID,
        share: float = 0.5,
        names: dict[str, int | None] | None = None,
        anything: Any = None,
    ) -> tuple[dt.datetime, uuid.UUID, float, dict[str, int | None], Any]:
        return when, key, share, names or {}, anything

    async def nothing(self) -> None:
        """Do nothing."""

    async def count(self, to: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3) -> AsyncIterator[int]:
        """Count up."""
        for number in range(to):
            yield number

    async def orders(self, fail_after: int = 2) -> AsyncIterator[Order]:
        """Stream orders, then fail."""
        for number in range(min(fail_after, 50)):
            yield Order(id=str(number), sku="tea", quantity=1)
        raise SoldOut("no more orders")

    async def hold(self) -> str:
        """Wait until the test lets go."""
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "released"

    async def trickle(self) -> AsyncIterator[int]:
        """Stream one item, then wait until the test lets go."""
        try:
            yield 0
            self.entered.set()
            await self.release.wait()
            yield 1
        finally:
            self.cancelled.set()

    async def quiet(self) -> AsyncIterator[int]:
        """Stream nothing until the test lets go."""
        await self.release.wait()
        yield 1

    async def fail(self, how: str) -> None:
        """Fail in the way that is asked for."""
        raise FAILURES.get(how, Exception("the password is hunter2"))

    async def told(self) -> list[str | None]:
        """Return what travelled with the call."""
        seen = self.seen
        return [seen.traceparent, seen.idempotency_key] if seen else []


class Teapot(Exception):
    """It is short and stout."""


FAILURES: dict[str, Exception] = {
    "unavailable": Unavailable("no leader"),
    "overloaded": Overloaded("full"),
    "not_found": NotFound("no such order"),
    "conflict": Conflict("changed"),
    "exists": AlreadyExists("there already"),
    "fenced": Fenced("a later token was seen"),
    "denied": PermissionDenied("not yours"),
    "deadline": DeadlineExceeded("too slow"),
    "remote": RemoteError("hunter2", type_name="x.Y", remote_traceback="hunter2"),
    "teapot": Teapot("short and stout"),
}


ERRORS = ErrorRegistry()
ERRORS.register(SoldOut, status=409)
ERRORS.register(Teapot, status=418)


class SampleBackend:
    """Runs the services where it stands, with the deadlines that a node would keep."""

    def __init__(self) -> None:
        self.name = "node-1"
        self.app_name = "shop"
        self.shop = Shop()
        self.services: Mapping[str, ServiceSpec] = {"Shop": describe(Shop)}
        self.errors = ERRORS
        self.entropy = SystemEntropy()
        self.reasons: list[str] = []
        self.calls = itertools.count(1)

    async def invoke(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> Any:
        self.shop.seen = metadata
        try:
            async with asyncio.timeout(timeout_s):
                return await self._call(method, arguments)
        except TimeoutError:
            raise DeadlineExceeded(f"{method.target} took longer than {timeout_s} s") from None

    async def stream(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> AsyncIterator[Any]:
        self.shop.seen = metadata
        async with contextlib.aclosing(self._call(method, arguments)) as items:
            try:
                async with asyncio.timeout(timeout_s):
                    async for item in items:
                        yield item
            except TimeoutError:
                raise DeadlineExceeded(f"{method.target} took longer than {timeout_s} s") from None

    def _call(self, method: MethodSpec, arguments: Any) -> Any:
        next(self.calls)
        return getattr(self.shop, method.name)(
            **{name: getattr(arguments, name) for name in arguments.__struct_fields__}
        )

    def ready(self) -> list[str]:
        return self.reasons

    def collect(self) -> Iterable[Family]:
        return [gauge("coterie_node_members", "Members of the cluster.", 3)]


class Raw:
    """A connection on which anything can be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, server: HttpServer) -> Raw:
        host, _, port = server.address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def post(self, path: str, body: bytes = b"", *, headers: str = "") -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
        if "Transfer-Encoding" not in headers:
            head += f"Content-Length: {len(body)}\r\n"
        self.writer.write(f"{head}\r\n".encode() + body)

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a response that tells its length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def rest(self) -> bytes:
        """Return what comes until the server closes the connection."""
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := await self.reader.read(65536):
                parts.append(part)
        return b"".join(parts)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; the test's own time limit ends the wait."""
    while not condition():
        await asyncio.sleep(0.005)
