"""How a listener's end takes what came in one read: in portions, in order, and only while it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from coterie.codec.frames import PREFIX, FrameSplitter
from coterie.engines.common.steps import Steps
from coterie.engines.system import SystemEntropy
from coterie.engines.tcp import TcpWire, WireConfig
from coterie.engines.tcp.listener import AcceptedConnection, TcpListener
from coterie.engines.tcp.messages import MAGIC, VERSION, Hello, Reply, Request, decode, encode
from coterie.ports.wire import Handlers
from coterie.ports.wire import Request as PortRequest


class Line:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def messages(self) -> list[Any]:
        splitter = FrameSplitter(1 << 30)
        return [decode(frame) for data in self.written for frame in splitter.feed(data)]

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        pass


def framed(*messages: Any) -> bytes:
    return b"".join(PREFIX.pack(len(frame)) + frame for frame in map(encode, messages))


async def no_stream(request: PortRequest) -> AsyncIterator[bytes]:
    raise AssertionError
    yield b""


class Answering:
    """An accepted connection whose handler notes what it was asked, and answers at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.steps = Steps(asyncio.get_running_loop())
        handlers = Handlers(request=self.answer, stream=no_stream)  # type: ignore[arg-type]
        listener = TcpListener(WireConfig(), handlers, self.steps)
        self.line = Line()
        self.connection = AcceptedConnection(listener, b"n" * 16)
        self.connection.connection_made(self.line)  # type: ignore[arg-type]
        self.connection.data_received(framed(Hello(MAGIC, VERSION, b"n" * 16)))
        self.line.written.clear()

    async def answer(self, request: PortRequest) -> bytes:
        self.asked.append(msgspec.msgpack.decode(request.body))
        return msgspec.msgpack.encode(self.asked[-1])

    def ask(self, *numbers: int) -> None:
        body = msgspec.msgpack.encode
        self.connection.data_received(framed(*(Request(n, "x", 0, msgspec.Raw(body(n))) for n in numbers)))


@asynccontextmanager
async def answering() -> AsyncIterator[Answering]:
    end = Answering()
    yield end
    end.connection.connection_lost(None)
    await end.steps.close()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_first_answers_leave_before_the_last_requests_are_taken() -> None:
    async with answering() as end:
        end.ask(*range(100))
        assert 0 < len(end.line.messages()) == len(end.asked) < 100
        await turns(10)
        assert end.asked == list(range(100))
        assert [message.id for message in end.line.messages()] == list(range(100))


async def test_what_comes_meanwhile_is_taken_in_order() -> None:
    async with answering() as end:
        end.ask(*range(100))
        end.ask(*range(100, 103))
        await turns(10)
        assert end.asked == list(range(103))


async def test_nothing_is_taken_from_a_peer_that_does_not_read() -> None:
    async with answering() as end:
        end.ask(*range(100))
        end.connection.pause_writing()
        taken = len(end.asked)
        await turns(10)
        end.ask(100)  # A chunk that was on its way already.
        await turns(10)
        assert len(end.asked) == taken
        assert not end.line.reading
        end.connection.resume_writing()
        await turns(10)
        assert end.asked == list(range(101))
        assert end.line.reading


async def test_what_is_left_of_a_lost_connection_is_not_taken() -> None:
    async with answering() as end:
        end.ask(*range(100))
        taken = len(end.asked)
        end.connection.connection_lost(None)
        await turns(10)
        assert len(end.asked) == taken


async def test_many_answers_do_not_wait_for_each_other() -> None:
    """All of them end in one turn of the loop; only so many are joined into one write."""
    async with answering() as end:
        for number in range(1000):
            end.connection.send(Reply(number, msgspec.Raw(b"\x01")))
        assert len(end.line.messages()) > 700
        await turns(1)
        assert [message.id for message in end.line.messages()] == list(range(1000))


async def test_large_bodies_both_ways_at_once_do_not_stop_each_other() -> None:
    """Each end writes more than fits between them. If both stopped reading for that, none would go on."""

    async def echo(request: PortRequest) -> bytes:
        return bytes(request.body)

    config = WireConfig(write_buffer_bytes=65_536, stall_s=5)
    wire = TcpWire(entropy=SystemEntropy(), config=config)
    listener = await wire.listen("127.0.0.1:0", Handlers(request=echo, stream=no_stream))  # type: ignore[arg-type]
    channel = wire.connect(listener.address)
    body = msgspec.msgpack.encode(b"x" * 4_000_000)
    replies = await asyncio.gather(*(channel.request("echo", body, timeout_s=30) for _ in range(24)))
    assert all(len(reply) == len(body) for reply in replies)
    await wire.close()
