"""What the suite needs to know about the wire under test, and the handlers that it calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol, cast

import msgspec

from ...errors import Outcome
from ...ports.wire import Channel, Failure, Handlers, Listener, Request, Wire
from .._expect import Violation, eventually

__all__ = [
    "HANG_S",
    "Service",
    "WireFixture",
    "connected",
    "decoded",
    "encoded",
    "framed",
    "gather_items",
    "leave",
    "wait_pending",
]

HANG_S = 15.0
"""How long a check waits for what must come; it bounds a hang and is no promise of speed."""


def encoded(value: object) -> bytes:
    """Return a body that holds the value."""
    return msgspec.msgpack.encode(value)


def decoded(body: bytes | memoryview | msgspec.Raw) -> Any:
    """Return the value that a body holds."""
    return msgspec.msgpack.decode(body)


class WireFixture(Protocol):
    """The wires of several nodes that can reach each other, all closed when the fixture ends."""

    @property
    def wire(self) -> Wire:
        """The wire of the first node, which the checks let listen."""
        ...

    async def connect(self) -> Wire:
        """Return the wire of another node."""
        ...

    @property
    def free_address(self) -> str:
        """An address that stands for any free one, such as `127.0.0.1:0`."""
        ...

    @property
    def framed(self) -> bool:
        """Whether the wire sends bytes, so that a peer can send malformed ones."""
        ...

    async def garble(self, address: str, data: bytes) -> None:
        """Connect to `address`, send `data`, and return when the other end has closed the connection.

        Only called when `framed` is true.
        """
        ...


def framed(fixture: WireFixture) -> bool:
    """Whether malformed bytes can reach the wire at all."""
    return fixture.framed


class Service:
    """Handlers that do what the target says, and note what reaches them."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.seen: Counter[Any] = Counter()
        """How often a handler started with each body."""
        self.running: int = 0
        self.cancelled: int = 0
        """How many handlers were cancelled, or closed before their end."""
        self.produced: int = 0
        """How many items the streams have handed to the wire."""
        self.release: asyncio.Event = asyncio.Event()
        self.datagrams: list[tuple[Any, str]] = []

    @property
    def handlers(self) -> Handlers:
        return Handlers(request=self._request, stream=self._stream, datagram=self._datagram)

    def note(self, request: Request) -> Any:
        """Note that a handler has started, and return the value of its body."""
        self.requests.append(request)
        value = decoded(request.body)
        self.seen[value if isinstance(value, (int, str, bytes, type(None))) else repr(value)] += 1
        return value

    async def _request(self, request: Request) -> bytes:
        value = self.note(request)
        self.running += 1
        try:
            return encoded(await self._answer(request.target, value))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, target: str, value: Any) -> Any:
        match target:
            case "wait":
                await self.release.wait()
            case "turns":  # as many turns of the loop as the value says
                for _ in range(value):
                    await asyncio.sleep(0)
            case "fail":
                raise Failure(
                    "conflict",
                    "the message",
                    hint="the hint",
                    outcome=Outcome.NOT_APPLIED,
                    detail=encoded(value),
                    traceback="the traceback",
                )
            case "bug":
                raise ZeroDivisionError("a bug")
            case "cancel":
                raise asyncio.CancelledError
            case "grow":
                return b"x" * value
        return value

    async def _stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        value = self.note(request)
        self.running += 1
        complete = False
        try:
            for index in range(value if isinstance(value, int) else 0):
                self.produced += 1
                yield encoded(index)
            match request.target:
                case "wait":
                    await self.release.wait()
                case "fail":
                    raise Failure("not_found", "the stream broke", detail=encoded(value))
                case "bug":
                    raise ZeroDivisionError("a bug")
                case "large":
                    for index in range(8):
                        yield encoded(bytes([index]) * 1_000_000)
            complete = True
        except Exception:
            complete = True
            raise
        finally:
            self.running -= 1
            self.cancelled += not complete

    def _datagram(self, body: bytes, peer: str) -> None:
        self.datagrams.append((decoded(body), peer))

    async def wait_running(self, count: int) -> None:
        """Wait until `count` handlers run."""
        await self._wait(lambda: self.running == count, f"{count} handlers run")

    async def wait_cancelled(self, count: int = 1) -> None:
        """Wait until `count` handlers have been cancelled."""
        await self._wait(lambda: self.cancelled == count, f"{count} handlers are cancelled")

    async def _wait(self, condition: Any, what: str) -> None:
        try:
            async with asyncio.timeout(HANG_S):
                while not condition():  # noqa: ASYNC110 - the handlers tell nobody
                    await asyncio.sleep(0.001)
        except TimeoutError:
            state = f"{self.running} run, {self.cancelled} were cancelled"
            raise Violation(f"{what}: not so even after {HANG_S} s ({state})") from None


@asynccontextmanager
async def connected(
    fixture: WireFixture, service: Service | None = None
) -> AsyncIterator[tuple[Service, Listener, Channel]]:
    """Listen on the first node and connect from a second."""
    service = service or Service()
    listener = await fixture.wire.listen(fixture.free_address, service.handlers)
    client = await fixture.connect()
    channel = client.connect(listener.address)
    try:
        yield service, listener, channel
    finally:
        await channel.close()
        await listener.close()


async def gather_items(
    stream: AsyncIterator[bytes | memoryview | msgspec.Raw], *, most: int | None = None
) -> list[Any]:
    """Return the values of a stream: all, or the first `most`."""
    items: list[Any] = []
    async with asyncio.timeout(HANG_S):
        while most is None or len(items) < most:
            try:
                items.append(decoded(await anext(stream)))
            except StopAsyncIteration:
                break
    return items


async def leave(stream: AsyncIterator[bytes | memoryview | msgspec.Raw]) -> None:
    """Leave a stream early. The port promises `aclose`, which the type `AsyncIterator` does not name."""
    async with aclosing(cast("AsyncGenerator[Any, None]", stream)):
        pass


async def wait_pending(count: int, channel: Channel, listener: Listener) -> None:
    """Wait until both ends count so many calls: a reply may arrive before its sender has noted it."""

    async def so() -> bool:
        return channel.pending == listener.pending == count

    await eventually(so, f"{count} calls are under way")
