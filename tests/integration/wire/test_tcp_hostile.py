"""Peers that break the protocol: their own connection ends, with a reason, and all others live on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from wire_tools import Raw, Wires, call, eventually, framed, packed

from coterie.codec.frames import PREFIX
from coterie.engines.tcp.config import WireConfig
from coterie.engines.tcp.messages import (
    MAGIC,
    VERSION,
    Cancel,
    Credit,
    Datagram,
    End,
    Failed,
    Goodbye,
    Hello,
    Item,
    Open,
    Ping,
    Pong,
    Proof,
    Refused,
    Reject,
    Reply,
    Request,
    Welcome,
    encode,
)
from coterie.errors import TooLarge, Unavailable

KEY = "a key of some length"
ONE = msgspec.Raw(b"\x01")


@pytest.fixture
async def good(wires: Wires) -> AsyncIterator[Any]:
    """A good caller whose call is under way all the time; it must be answered in the end."""
    await wires.listen()
    channel = wires.channel()
    waiting = asyncio.ensure_future(call(channel, "kept", "wait"))
    await eventually(lambda: wires.answers.started == 1)
    yield channel
    assert await call(channel, "new") == "new"
    wires.answers.release.set()
    assert await waiting == "kept"


async def reason(raw: Raw) -> str:
    """Return why the listener has closed the connection."""
    messages = await raw.rest()
    assert messages, "closed without a word"
    last = messages[-1]
    assert isinstance(last, Reject)
    return f"{last.code}: {last.message}"


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\xff" * 8,
    b"\x16\x03\x01\x02\x00" + b"\x01" * 600,
    b"\x00\x00\x00\x00",
    b"\x00\x00\x00\x01\xc1",
    b"\x00\x00\x00\x02\x90\x90",
    PREFIX.pack(5000) + b"x" * 5000,
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("greeted", [False, True], ids=["first", "later"])
async def test_garbage(wires: Wires, good: Any, data: bytes, greeted: bool) -> None:
    raw = await (wires.raw() if greeted else wires.stranger())
    await raw.write(data)
    assert (await reason(raw)).startswith("protocol_error: ")


BEFORE_THE_HELLO = [
    Request(1, "echo", 0, ONE),
    Open(1, "count", 0, 5, ONE),
    Datagram(b""),
    Ping(),
    Proof(b""),
    Welcome(VERSION, b"n" * 16, b""),
    Cancel(1),
]


@pytest.mark.parametrize("message", BEFORE_THE_HELLO, ids=lambda message: type(message).__name__)
async def test_anything_before_the_hello(wires: Wires, good: Any, message: Any) -> None:
    raw = await wires.stranger()
    await raw.send(message)
    assert await reason(raw) == "protocol_error: a connection begins with a hello"
    assert wires.answers.started == 1


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (Hello("coteriX", VERSION, b"n" * 16), "a connection begins with a hello"),
        (Hello(MAGIC, 2, b"n" * 16), "version 2 of the wire is not spoken here, only 1"),
        (Hello(MAGIC, 0, b"n" * 16), "version 0 of the wire is not spoken here, only 1"),
        (Hello(MAGIC, VERSION, b"n" * 15), "a nonce has 16 bytes, not 15"),
        (Hello(MAGIC, VERSION, b""), "a nonce has 16 bytes, not 0"),
    ],
)
async def test_a_bad_hello(wires: Wires, good: Any, hello: Hello, why: str) -> None:
    raw = await wires.stranger()
    await raw.send(hello)
    assert await reason(raw) == f"protocol_error: {why}"


async def test_a_hello_may_have_fields_of_a_later_version(wires: Wires, good: Any) -> None:
    raw = await wires.stranger()
    await raw.send(packed([0, MAGIC, VERSION, b"n" * 16, {"more": True}]), Request(1, "echo", 0, ONE))
    assert isinstance(await raw.receive(), Welcome)
    assert await raw.receive() == Reply(1, ONE)


async def test_a_hello_larger_than_a_hello_is_refused_by_its_length(wires: Wires, good: Any) -> None:
    raw = await wires.stranger()
    await raw.write(PREFIX.pack(4097))
    assert await reason(raw) == "protocol_error: a frame of 4097 bytes; the limit is 4096"


UNEXPECTED = [
    Hello(MAGIC, VERSION, b"n" * 16),
    Welcome(VERSION, b"n" * 16, b""),
    Proof(b""),
    Reply(1, ONE),
    Failed(1, "c", "m", "", "unknown", b"", ""),
    Refused(1, "c", "m"),
    Item(1, ONE),
    End(1),
    Goodbye(),
]


@pytest.mark.parametrize("message", UNEXPECTED, ids=lambda message: type(message).__name__)
async def test_messages_that_only_the_other_end_may_send(wires: Wires, good: Any, message: Any) -> None:
    raw = await wires.raw()
    await raw.send(message)
    kind = type(message).__name__
    assert (await reason(raw)) == f"protocol_error: a {kind} was not expected here"


MALFORMED = [
    b"",
    b"\xc0",
    b"\x90",
    b"\x80",
    packed([99]),
    packed(["4", 1, "echo", 0, 1]),
    packed([4]),
    packed([4, "1", "echo", 0, 1]),
    packed([4, 1, b"echo", 0, 1]),
    packed([4, 1, "echo", "0", 1]),
    packed([4, 1, "echo", 0, 1, "metadata"]),
    packed([4, 1.5, "echo", 0, 1]),
    packed([4, 1, "echo", 0]),
    b"\x95\x04\x01\xa4echo\x00",
    b"\x95\x04\x01\xa4ech\xff\x00\x01",
    b"\x95\x04\x01\xa4echo\x00\x01\x01",
    b"\x95\x04\x01\xdb\xff\xff\xff\xffecho",
    b"\xdd\xff\xff\xff\xff",
    b"\x95\x04\x01\xa4echo\x00" + b"\x91" * 500_000,
]


@pytest.mark.parametrize("content", MALFORMED, ids=range(len(MALFORMED)))
async def test_a_malformed_frame(wires: Wires, good: Any, content: bytes) -> None:
    raw = await wires.raw()
    await raw.send(Request(1, "echo", 0, ONE))
    assert await raw.receive() == Reply(1, ONE)
    await raw.send(content)
    assert (await reason(raw)).startswith("protocol_error: a malformed frame: ")


async def test_an_oversized_frame_is_refused_by_its_length(wires: Wires, good: Any) -> None:
    limit = WireConfig().max_frame_bytes
    raw = await wires.raw()
    await raw.send(Ping())
    assert await raw.receive() == Pong()
    await raw.write(PREFIX.pack(limit + 1))
    assert await reason(raw) == f"protocol_error: a frame of {limit + 1} bytes; the limit is {limit}"


async def test_calls_before_the_malformed_frame_are_answered(wires: Wires, good: Any) -> None:
    raw = await wires.raw()
    await raw.send(*(Request(index, "echo", 0, ONE) for index in range(100)), b"\xc1")
    messages = await raw.rest()
    assert messages[:100] == [Reply(index, ONE) for index in range(100)]
    assert isinstance(messages[100], Reject)
    assert len(messages) == 101


async def test_one_byte_at_a_time(wires: Wires, good: Any) -> None:
    raw = await wires.stranger()
    raw.writer.get_extra_info("socket").setsockopt(6, 1, 1)  # no delay
    messages = [Hello(MAGIC, VERSION, b"n" * 16), Request(1, "echo", 0, ONE), Request(2, "echo", 0, ONE)]
    for byte in b"".join(map(framed, messages)):
        await raw.write(bytes([byte]))
        await asyncio.sleep(0)
    assert isinstance(await raw.receive(), Welcome)
    assert [await raw.receive(), await raw.receive()] == [Reply(1, ONE), Reply(2, ONE)]


async def test_everything_at_once(wires: Wires, good: Any) -> None:
    raw = await wires.stranger()
    hello = Hello(MAGIC, VERSION, b"n" * 16)
    await raw.send(hello, *(Request(index, "echo", 0, ONE) for index in range(1000)))
    assert isinstance(await raw.receive(), Welcome)
    assert [await raw.receive() for _ in range(1000)] == [Reply(index, ONE) for index in range(1000)]


async def test_an_id_that_is_under_way(wires: Wires, good: Any) -> None:
    for second in (Request(1, "wait", 0, ONE), Open(1, "count", 0, 5, ONE)):
        for first in (Request(1, "wait", 0, ONE), Open(1, "endless", 0, 1, ONE)):
            raw = await wires.raw()
            await raw.send(first, second)
            assert "the call 1 is under way already" in await reason(raw)


async def test_what_ended_or_never_was_may_be_cancelled(wires: Wires, good: Any) -> None:
    raw = await wires.raw()
    await raw.send(Request(1, "echo", 0, ONE), Cancel(1), Cancel(77), Credit(1, 5), Credit(78, 5))
    assert await raw.receive() == Reply(1, ONE)
    await raw.send(Request(1, "echo", 0, ONE))
    assert await raw.receive() == Reply(1, ONE)


@pytest.mark.parametrize("credit", [0, -1, -(2**63)])
async def test_credit_below_one_lets_nothing_through(wires: Wires, good: Any, credit: int) -> None:
    raw = await wires.raw()
    await raw.send(Open(1, "endless", 0, credit, ONE), Credit(1, -5), Ping())
    assert await raw.receive() == Pong()
    await raw.send(Ping())
    assert await raw.receive() == Pong()
    assert wires.answers.produced <= 1


@pytest.mark.parametrize("credit", [65, 2**63, 2**64 - 1])
async def test_credit_above_the_limit_is_the_limit(wires: Wires, good: Any, credit: int) -> None:
    raw = await wires.raw()
    for message in (Open(1, "endless", 0, credit, ONE), Credit(1, credit)):
        await raw.send(message, Ping())
        assert await items_until_pong(raw) <= 64
        await raw.send(Ping())
        assert await items_until_pong(raw) <= 64


async def items_until_pong(raw: Raw) -> int:
    count = 0
    while (message := await raw.receive()) != Pong():
        assert isinstance(message, Item)
        count += 1
    return count


NUMBERS = [0, -1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]


@pytest.mark.parametrize("number", NUMBERS)
async def test_any_number_as_an_id_or_a_timeout(wires: Wires, good: Any, number: int) -> None:
    raw = await wires.raw()
    for message in (
        Request(number, "echo", 0, ONE),
        Request(1, "echo", number, ONE),
        Request(2, "grow", number, ONE),
        Open(number, "count", number, 5, ONE),
    ):
        await raw.send(message)
        answer = await raw.receive()
        assert isinstance(answer, Reply | Failed | Refused | Item | Reject)
        if isinstance(answer, Reject):
            raw = await wires.raw()


async def test_a_body_of_the_limit_arrives_and_one_above_does_not(wires: Wires, good: Any) -> None:
    limit = WireConfig().max_body_bytes
    assert await call(good, b"x" * (limit - 5)) == b"x" * (limit - 5)
    for size in (limit - 4, limit * 2):
        with pytest.raises(TooLarge, match=f"the limit of the wire is {limit}"):
            await call(good, b"x" * size)
    with pytest.raises(Exception, match="the limit of the wire") as caught:
        await call(good, limit, "grow")
    assert caught.value.code == "too_large"  # type: ignore[attr-defined]
    assert wires.answers.started == 3


async def test_a_request_beyond_the_body_limit_but_within_the_frame(wires: Wires) -> None:
    """The limit of a body is that of the caller; a listener takes any frame within its own limit."""
    await wires.listen(max_body_bytes=1024)
    raw = await wires.raw()
    body = msgspec.Raw(packed(b"x" * 2000))
    await raw.send(Request(1, "echo", 0, body), Ping())
    answer = await raw.receive()
    assert isinstance(answer, Failed)
    assert answer.code == "too_large"
    assert await raw.receive() == Pong()


async def test_many_calls_at_once_are_refused_beyond_the_limit(wires: Wires) -> None:
    await wires.listen(max_in_flight=10)
    raw = await wires.raw()
    await raw.send(*(Request(index, "wait", 0, ONE) for index in range(15)))
    refused = [await raw.receive() for _ in range(5)]
    assert [(m.id, m.code) for m in refused] == [(i, "overloaded") for i in range(10, 15)]  # type: ignore[union-attr]
    assert wires.answers.started == 10
    wires.answers.release.set()
    assert [await raw.receive() for _ in range(10)] == [Reply(index, ONE) for index in range(10)]


async def test_a_listener_that_breaks_the_protocol_is_left(wires: Wires) -> None:
    answers = [b"\xc1", encode(Request(1, "echo", 0, ONE)), b"\x92\x00\x00", b"x" * 5000]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = Raw(reader, writer)
        wires.raws.append(raw)
        await raw.receive()
        await raw.send(answers[0])
        heard.append(await raw.rest())
        writer.close()

    heard: list[Any] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        while answers:
            with pytest.raises(Unavailable, match=r"frame|began with") as caught:
                await call(wires.channel(address))
            assert caught.value.outcome == "not_applied"
            await eventually(lambda: heard)
            assert isinstance(heard.pop()[-1], Reject)
            answers.pop(0)


async def test_a_handler_whose_error_cannot_be_sent_is_still_answered(wires: Wires) -> None:
    await wires.listen()
    raw = await wires.raw()
    for text in ("a file \udcff", "x" * 20_000_000):
        wires.answers.error = text
        await raw.send(Request(1, "error", 0, ONE), Open(2, "error", 0, 1, ONE))
        for id_ in (1, 2):
            answer = await raw.receive()
            assert isinstance(answer, Failed)
            assert (answer.id, answer.code) == (id_, "remote_error")
            assert answer.message[:3] == text[:3]


async def test_the_text_of_a_peer_is_escaped_in_the_log(
    wires: Wires, caplog: pytest.LogCaptureFixture
) -> None:
    await wires.listen()
    raw = await wires.raw()
    await raw.send(Reject("protocol_error", "bye\nWARNING all is lost\x1b[2J" + "x" * 100_000))
    await raw.rest()
    (record,) = [record for record in caplog.records if record.name == "coterie.wire"]
    text = record.getMessage()
    assert r"the peer closed the connection: bye\nWARNING all is lost\x1b[2Jxxx" in text
    assert text.isprintable()
    assert len(text) < 1000


async def test_the_text_of_a_refusal_is_escaped_for_the_caller(wires: Wires) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = Raw(reader, writer)
        wires.raws.append(raw)
        await raw.receive()
        await raw.send(answers.pop(0))
        if answers:
            await raw.receive()
            await raw.send(answers.pop(0))

    answers: list[Any] = [
        Welcome(VERSION, b"l" * 16, b""),
        Refused(1, "unavailable", "go\naway\x1b[2J"),
        Reject("protocol_error", "go\naway\x1b[2J"),
    ]
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"go\\naway\\x1b\[2J"):
                await call(wires.channel(address))
        for raw in wires.raws:
            raw.vanish()
