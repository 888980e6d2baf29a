"""A live listener under random bytes and mutated messages: a good caller never notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coterie.codec.frames import PREFIX
from coterie.context import Metadata
from coterie.engines.system import SystemEntropy
from coterie.engines.tcp import TcpWire
from coterie.engines.tcp import messages as m
from coterie.ports.wire import Handlers, Request

ids = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
numbers = st.one_of(st.integers(-2, 100), st.integers(-(2**63), 2**64 - 1))
texts = st.one_of(st.sampled_from(["echo", "wait", "fail", ""]), st.text(max_size=20))
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
bodies = values.map(msgspec.msgpack.encode).map(msgspec.Raw)
metadata = st.none() | st.builds(
    Metadata, texts, st.none() | texts, st.none() | st.binary(max_size=5), numbers
)
messages = st.one_of(
    st.builds(m.Request, ids, texts, numbers, bodies, metadata),
    st.builds(m.Open, ids, texts, numbers, numbers, bodies, metadata),
    st.builds(m.Cancel, ids),
    st.builds(m.Credit, ids, numbers),
    st.builds(m.Datagram, st.binary(max_size=10)),
    st.builds(m.Ping),
    st.builds(m.Pong),
    st.builds(m.Hello, texts, numbers, st.binary(max_size=17)),
    st.builds(m.Reply, ids, bodies),
    st.builds(m.Reject, texts, texts),
)
contents = st.one_of(
    messages.map(m.encode),
    st.lists(values, max_size=6).map(msgspec.msgpack.encode),
    st.tuples(messages.map(m.encode), st.integers(0, 200), st.binary(min_size=1, max_size=3)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]) :]
    ),
    st.binary(max_size=50),
)
frames = contents.map(lambda content: PREFIX.pack(len(content)) + content)
streams = st.lists(st.one_of(frames, st.binary(max_size=30)), max_size=12)
HELLO = m.encode(m.Hello(m.MAGIC, m.VERSION, b"n" * 16))


async def request(request: Request) -> bytes:
    if request.target == "wait":
        await asyncio.Event().wait()
    if request.target == "fail":
        raise ValueError("on purpose")
    return bytes(request.body)


async def stream(request: Request) -> AsyncGenerator[bytes, None]:
    while True:
        yield bytes(request.body)
        if request.target != "echo":
            await asyncio.Event().wait()


def ignore(body: bytes, peer: str) -> None:
    pass


async def attack(address: tuple[str, int], data: bytes) -> None:
    """Send `data`, let the listener have its say, and go without a goodbye."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(0.01):
            await reader.read()
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


async def scenario(chunks: list[bytes], *, greeted: bool) -> None:
    loop = asyncio.get_running_loop()
    escaped: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    before = asyncio.all_tasks()
    server, client = TcpWire(entropy=SystemEntropy()), TcpWire(entropy=SystemEntropy())
    listener = await server.listen("127.0.0.1:0", Handlers(request=request, stream=stream, datagram=ignore))
    host, _, port = listener.address.rpartition(":")
    channel = client.connect(listener.address)
    assert bytes(await channel.request("echo", b"\x01", timeout_s=10)) == b"\x01"
    hello = PREFIX.pack(len(HELLO)) + HELLO if greeted else b""
    await attack((host, int(port)), hello + b"".join(chunks))
    assert bytes(await channel.request("echo", b"\x02", timeout_s=10)) == b"\x02"
    async with asyncio.timeout(10):
        while len(listener.connections) > 1 or listener.pending:
            await asyncio.sleep(0.001)
    assert len(listener.connections) == 1, "the good caller was dropped"
    await client.close()
    await server.close()
    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.001)
    assert not escaped


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams, st.booleans())
def test_whatever_a_peer_sends_a_good_caller_does_not_notice(chunks: list[bytes], greeted: bool) -> None:
    asyncio.run(scenario(chunks, greeted=greeted))
