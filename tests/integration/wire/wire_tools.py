"""Handlers, raw peers that speak the wire's bytes by hand, and certificates."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from coterie.codec.frames import PREFIX, FrameSplitter
from coterie.engines.system import SystemEntropy
from coterie.engines.tcp import TcpWire, WireConfig
from coterie.engines.tcp._handshake import CallerHandshake
from coterie.engines.tcp.messages import Message, Welcome, decode, encode
from coterie.ports.wire import Channel, Handlers, Request

__all__ = ["Answers", "Certificates", "Raw", "Wires", "call", "eventually", "framed", "open_wires"]

packed = msgspec.msgpack.encode


def framed(message: Message | bytes) -> bytes:
    """Return a message, or the bytes that stand for one, as a frame."""
    body = message if isinstance(message, bytes) else encode(message)
    return PREFIX.pack(len(body)) + body


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


class Answers:
    """Handlers: `echo`, `grow` to a size, `wait` for the release, `fail after` it, `fail` at once, `error`.

    Streams: `count`, `endless`, `error`.
    """

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.started = 0
        self.cancelled = 0
        self.produced = 0
        self.datagrams: list[bytes] = []
        self.error = ""
        self.handlers = Handlers(request=self.request, stream=self.stream, datagram=self._datagram)

    async def request(self, request: Request) -> bytes:
        self.started += 1
        value = msgspec.msgpack.decode(request.body)
        try:
            match request.target:
                case "wait" | "fail after":
                    await self.release.wait()
                    if request.target == "fail after":
                        raise ValueError(str(value))
                case "grow":
                    value = b"x" * value
                case "fail":
                    raise ValueError(value)
                case "error":
                    raise ValueError(self.error)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return packed(value)

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        self.started += 1
        value = msgspec.msgpack.decode(request.body)
        try:
            if request.target == "error":
                raise ValueError(self.error)
            if request.target == "endless":
                while True:
                    self.produced += 1
                    yield packed(b"x" * value)
            for index in range(value):
                self.produced += 1
                yield packed(index)
        finally:
            self.cancelled += request.target == "endless"

    def _datagram(self, body: bytes, peer: str) -> None:
        self.datagrams.append(body)


async def call(channel: Channel, value: Any = 1, target: str = "echo", *, timeout_s: float = 20.0) -> Any:
    """Call a handler of `Answers`."""
    return msgspec.msgpack.decode(await channel.request(target, packed(value), timeout_s=timeout_s))


class Raw:
    """A peer that sends what it is told to, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._splitter = FrameSplitter(1 << 30)
        self._frames: list[bytes] = []

    @classmethod
    async def connect(cls, address: str, **options: Any) -> Self:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), **options))

    @classmethod
    async def greeted(cls, address: str, *, key: str = "") -> Self:
        """Connect and go through the handshake."""
        raw = cls(*await asyncio.open_connection(*_host_port(address)))
        handshake = CallerHandshake(key, b"n" * 16)
        await raw.send(handshake.hello())
        welcome = await raw.receive()
        assert isinstance(welcome, Welcome)
        proof = handshake.receive(welcome)
        if proof is not None:
            await raw.send(proof)
        return raw

    async def send(self, *messages: Message | bytes) -> None:
        await self.write(b"".join(map(framed, messages)))

    async def write(self, data: bytes) -> None:
        """Write `data`. That the other end has hung up already is found by reading."""
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def receive_frame(self) -> bytes | None:
        """Return the next frame's content, or None at the end."""
        async with asyncio.timeout(10):
            while not self._frames:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._frames += [bytes(frame) for frame in self._splitter.feed(data)]
        return self._frames.pop(0)

    async def receive(self) -> Message | None:
        """Return the next message, or None at the end."""
        frame = await self.receive_frame()
        return None if frame is None else decode(frame)

    async def rest(self) -> list[Message]:
        """Return all messages until the other end hangs up."""
        messages = []
        while (message := await self.receive()) is not None:
            messages.append(message)
        return messages

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    def vanish(self) -> None:
        self.writer.transport.abort()


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


class Wires:
    """A listener of `Answers`, and wires to call it with."""

    def __init__(self) -> None:
        self.answers = Answers()
        self.wires: list[TcpWire] = []
        self.listener: Any = None
        self.raws: list[Raw] = []

    @property
    def address(self) -> str:
        return str(self.listener.address)

    def wire(self, **options: Any) -> TcpWire:
        entropy = options.pop("entropy", None) or SystemEntropy()
        self.wires.append(TcpWire(entropy=entropy, config=WireConfig(**options)))
        return self.wires[-1]

    async def listen(self, address: str = "127.0.0.1:0", **options: Any) -> Any:
        self.listener = await self.wire(**options).listen(address, self.answers.handlers)
        return self.listener

    def channel(self, address: str = "", **options: Any) -> Channel:
        return self.wire(**options).connect(address or self.address)

    async def raw(self, *, key: str = "") -> Raw:
        """Return a raw peer of the listener that has done the handshake."""
        self.raws.append(await Raw.greeted(self.address, key=key))
        return self.raws[-1]

    async def stranger(self, **options: Any) -> Raw:
        """Return a raw peer of the listener that has said nothing yet."""
        self.raws.append(await Raw.connect(self.address, **options))
        return self.raws[-1]


@asynccontextmanager
async def open_wires() -> AsyncIterator[Wires]:
    """Open wires; at the end no task and no connection may be left."""
    before = asyncio.all_tasks()
    wires = Wires()
    try:
        yield wires
    finally:
        for raw in wires.raws:
            raw.vanish()
        for wire in wires.wires:
            await wire.close()
    if wires.listener is not None:
        assert wires.listener.pending == 0
        assert not wires.listener.connections
    await eventually(lambda: not asyncio.all_tasks() - before - {asyncio.current_task()})


@dataclass(frozen=True)
class Certificates:
    """An authority and what it signed, made by the openssl command."""

    directory: Path

    @classmethod
    def make(cls, directory: Path, authority: str = "ca") -> Certificates:
        made = cls(directory)
        made._openssl(
            *("req", "-x509", "-nodes", "-subj", f"/CN={authority}", *_NEW_KEY, *made._out("ca")),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),  # Which Python 3.13 demands.
        )
        for name in ("node", "other"):
            made._openssl(
                *("req", "-x509", "-nodes", "-subj", f"/CN={name}", *_NEW_KEY, *made._out(name)),
                *("-CA", "ca.crt", "-CAkey", "ca.key"),
                *(
                    "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1"
                    if name == "node"
                    else "subjectAltName=DNS:other",
                ),
                *("-addext", "basicConstraints=critical,CA:FALSE"),
            )
        return made

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def _out(self, name: str) -> tuple[str, ...]:
        return ("-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2")

    def server(self, name: str = "node", *, mutual: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        if mutual:
            context.load_verify_locations(self.directory / "ca.crt")
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, name: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        if name is not None:
            context.load_cert_chain(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        return context


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
