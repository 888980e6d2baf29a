"""Peers that stop reading, fall silent or vanish, and listeners that go."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from wire_tools import Raw, Wires, call, eventually, framed, packed

from coterie.engines.tcp.messages import Failed, Item, Open, Ping, Pong, Reject, Reply, Request
from coterie.errors import DeadlineExceeded, InvalidConfiguration, Outcome, Unavailable

ONE = msgspec.Raw(b"\x01")
LARGE = 1_000_000


async def test_a_peer_that_never_says_hello_is_dropped(wires: Wires) -> None:
    await wires.listen(hello_timeout_s=0.05)
    silent, half = await wires.stranger(), await wires.stranger()
    await half.write(b"\x00\x00")
    for raw in (silent, half):
        assert await raw.receive() == Reject("protocol_error", "no handshake within 0.05 s")
        assert await raw.receive() is None
    await eventually(lambda: not wires.listener.connections)


async def test_a_peer_that_never_proves_the_key_is_dropped(wires: Wires) -> None:
    await wires.listen(hello_timeout_s=0.05, cluster_key="a key of some length")
    raw = await wires.stranger()
    await raw.send(packed([0, "coterie", 1, b"n" * 16]))
    assert [type(message).__name__ for message in await raw.rest()] == ["Welcome", "Reject"]


async def test_a_silent_peer_is_asked_and_dropped(wires: Wires) -> None:
    await wires.listen(keepalive_s=0.05)
    raw = await wires.raw()
    await raw.send(Request(1, "wait", 0, ONE))
    assert await raw.receive() == Ping()
    assert await raw.receive() is None
    await eventually(lambda: wires.answers.cancelled == 1)
    assert wires.listener.pending == 0


async def test_a_peer_that_answers_pings_is_kept(wires: Wires) -> None:
    await wires.listen(keepalive_s=0.2)
    raw = await wires.raw()
    await raw.send(Request(1, "wait", 0, ONE))
    for _ in range(3):
        assert await raw.receive() == Ping()
        await raw.send(Pong())
    wires.answers.release.set()
    while (message := await raw.receive()) == Ping():
        await raw.send(Pong())
    assert message == Reply(1, ONE)


async def test_an_idle_channel_stays_connected(wires: Wires) -> None:
    await wires.listen(keepalive_s=0.15)
    channel = wires.channel(keepalive_s=0.15)
    assert await call(channel) == 1
    connection = cast("Any", channel)._connection
    await asyncio.sleep(0.8)
    assert connection.open
    assert await call(channel) == 1
    assert cast("Any", channel)._connection is connection


async def test_a_listener_that_falls_silent_loses_the_calls(wires: Wires) -> None:
    """As when its machine loses power: nothing closes the connection."""
    deaf = Silent(wires)
    address = await deaf.start()
    channel = wires.channel(address, keepalive_s=0.05)
    with pytest.raises(Unavailable, match="silent") as caught:
        await call(channel)
    assert caught.value.outcome is Outcome.UNKNOWN
    await deaf.stop()


class Silent:
    """A listener that does the handshake and then only reads."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires

    async def start(self) -> str:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = Raw(reader, writer)
        self.wires.raws.append(raw)
        await raw.receive()
        await raw.send(packed([1, 1, b"l" * 16, b""]))
        await raw.rest()
        raw.vanish()

    async def stop(self) -> None:
        self.server.close()
        for raw in self.wires.raws:  # From Python 3.12 on the server waits for them.
            raw.vanish()
        await self.server.wait_closed()


async def test_a_peer_that_vanishes_cancels_its_calls(wires: Wires) -> None:
    await wires.listen()
    raw = await wires.raw()
    await raw.send(*(Request(index, "wait", 0, ONE) for index in range(5)), Open(9, "endless", 0, 1, ONE))
    await eventually(lambda: wires.listener.pending == 6)
    raw.vanish()
    await eventually(lambda: wires.listener.pending == 0)
    assert wires.answers.cancelled == 6


async def test_a_peer_that_shuts_its_sending_end_is_done(wires: Wires) -> None:
    await wires.listen()
    raw = await wires.raw()
    await raw.send(Request(1, "wait", 0, ONE))
    await eventually(lambda: wires.answers.started == 1)
    raw.writer.write_eof()
    assert await raw.rest() == []
    await eventually(lambda: wires.answers.cancelled == 1)


async def test_from_a_reader_that_stops_nothing_more_is_taken_and_then_it_is_dropped(wires: Wires) -> None:
    await wires.listen(stall_s=1.0, write_buffer_bytes=65536)
    channel = wires.channel()
    raw = await wires.raw()
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await raw.send(*(Request(index, "grow", 0, packed_size()) for index in range(20)))
    await eventually(lambda: any(c.congested for c in wires.listener.connections))
    await round_trips(channel)
    before = wires.answers.started
    raw.writer.write(b"".join(framed(Request(index, "echo", 0, ONE)) for index in range(100, 200)))
    await round_trips(channel)
    assert wires.answers.started == before + 20
    await eventually(lambda: len(wires.listener.connections) == 1)
    assert await call(channel, "still") == "still"


async def test_replies_to_a_peer_that_never_reads_are_bounded(wires: Wires) -> None:
    """It has asked for much before it stopped to read. Each call ends all the same, once it reads again."""
    await wires.listen(write_buffer_bytes=LARGE, max_unread_bytes=4 * LARGE)
    raw = await wires.raw()
    (connection,) = wires.listener.connections
    body = msgspec.Raw(packed(b"x" * LARGE))
    for index in range(30):
        await raw.send(Request(index, "wait", 0, body))
    for index in range(30, 40):
        await raw.send(Request(index, "fail after", 0, body))
    await eventually(lambda: wires.answers.started == 40)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    wires.answers.release.set()
    await eventually(lambda: not connection.served)
    assert 4 * LARGE <= connection.unread_bytes < 6 * LARGE
    raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    answers = [cast("Any", await raw.receive()) for _ in range(40)]
    assert {answer.id for answer in answers} == set(range(40))
    dropped = [answer for answer in answers if isinstance(answer, Failed) and answer.id < 30]
    assert len(dropped) >= 15
    for answer in dropped:
        assert (answer.code, answer.outcome) == ("overloaded", "unknown")
        assert "wait for the caller to read" in answer.message
    await raw.send(Request(50, "echo", 0, ONE))
    assert await raw.receive() == Reply(50, ONE)


async def test_streams_to_a_peer_that_reads_slowly_are_bounded(wires: Wires) -> None:
    """Also when all of them wait to go on, and may at the same time."""
    await wires.listen(write_buffer_bytes=LARGE)
    raw = await wires.raw()
    (connection,) = wires.listener.connections
    await raw.send(*(Open(index, "endless", 0, 64, packed_size()) for index in range(30)))
    most = 0
    for _ in range(60):
        assert isinstance(await raw.receive(), Item)
        most = max(most, connection.unread_bytes)
    assert LARGE <= most < 4 * LARGE


async def round_trips(channel: Any) -> None:
    """Call twenty times, so that whatever else is under way gets its turn."""
    for _ in range(20):
        await call(channel)


def packed_size() -> msgspec.Raw:
    return msgspec.Raw(packed(LARGE))


async def test_a_stream_to_a_reader_that_stops_waits_for_it(wires: Wires) -> None:
    await wires.listen(write_buffer_bytes=65536)
    raw = await wires.raw()
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await raw.send(Open(1, "endless", 0, 64, packed_size()))
    await eventually(lambda: wires.answers.produced)
    for _ in range(20):
        await asyncio.sleep(0.005)
    produced = wires.answers.produced
    assert produced < 30, "it buffers megabytes for a peer that does not read"
    raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(10):
        assert isinstance(await raw.receive(), Item)


async def test_a_channel_does_not_send_to_a_listener_that_does_not_read(wires: Wires) -> None:
    silent = NotReading(wires)
    address = await silent.start()
    channel = wires.channel(address, write_buffer_bytes=65536, stall_s=20)
    calls = [asyncio.ensure_future(call(channel, b"x" * LARGE, timeout_s=0.5)) for _ in range(50)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, DeadlineExceeded) for result in results)
    outcomes = [cast("Any", result).outcome for result in results]
    assert outcomes.count(Outcome.NOT_APPLIED) > 30, "requests pile up in memory"
    assert outcomes.count(Outcome.UNKNOWN) >= 1
    await silent.stop()


class NotReading(Silent):
    """A listener that does the handshake and then stops reading."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = Raw(reader, writer)
        self.wires.raws.append(raw)
        await raw.receive()
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send(packed([1, 1, b"l" * 16, b""]))


async def test_closing_is_not_held_up_by_a_peer_that_does_not_read(wires: Wires) -> None:
    await wires.listen(write_buffer_bytes=65536)
    raw = await wires.raw()
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await raw.send(*(Request(index, "grow", 0, packed_size()) for index in range(20)))
    await eventually(lambda: any(c.congested for c in wires.listener.connections))
    async with asyncio.timeout(10):
        await wires.listener.close()
    assert not wires.listener.connections


async def test_closing_is_not_held_up_by_a_peer_that_reads_a_little(wires: Wires) -> None:
    """It reads until the listener could write again, and then no more."""
    await wires.listen(write_buffer_bytes=8 * LARGE)
    raw = await wires.raw()
    (connection,) = wires.listener.connections
    for end in (connection._transport, raw.writer):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # Little fits between the two.
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 16384)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await raw.send(*(Request(index, "grow", 0, packed_size()) for index in range(20)))
    await eventually(lambda: connection.congested)
    closing = asyncio.ensure_future(wires.listener.close())
    await eventually(lambda: connection.reason is not None)
    raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    while connection.congested:
        await raw.reader.read(65536)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert not closing.done()
    async with asyncio.timeout(10):
        await closing


async def test_leaving_many_streams_leaves_nothing_behind(wires: Wires) -> None:
    await wires.listen()
    channel = wires.channel()
    for _ in range(50):
        async with aclosing(cast("Any", channel.stream("endless", packed(10), timeout_s=None))) as items:
            await anext(items)
    await eventually(lambda: wires.answers.cancelled == 50)
    assert channel.pending == 0
    await eventually(lambda: wires.listener.pending == 0)


async def test_late_calls_leave_nothing_behind(wires: Wires) -> None:
    await wires.listen()
    channel = wires.channel()
    for _ in range(5):
        calls = [call(channel, 1, "wait", timeout_s=0.02) for _ in range(50)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, DeadlineExceeded) for result in results)
    assert channel.pending == 0
    await eventually(lambda: wires.listener.pending == 0)
    assert await call(channel, 7) == 7


async def test_an_address_in_use(wires: Wires) -> None:
    listener = await wires.listen()
    with pytest.raises(InvalidConfiguration, match="it is in use") as caught:
        await wires.wire().listen(listener.address, wires.answers.handlers)
    assert "127.0.0.1:0" in str(caught.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nonsense", "must be HOST:PORT or unix:/path"),
        ("127.0.0.1:99999", "must be HOST:PORT or unix:/path"),
        ("127.0.0.1:x", "must be HOST:PORT or unix:/path"),
        (":80", "must be HOST:PORT or unix:/path"),
        ("unix:", "must have 1 to 100 bytes"),
        ("unix:" + "x" * 101, "must have 1 to 100 bytes"),
        ("unix:/no/such/directory/socket", "cannot listen at unix:/no/such/directory/socket: No such file"),
    ],
)
async def test_addresses_that_cannot_be(wires: Wires, address: str, says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=says):
        await wires.listen(address)


async def test_nobody_there(wires: Wires) -> None:
    await wires.listen()
    await wires.listener.close()
    channel = wires.channel()
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await call(channel)
        assert caught.value.outcome is Outcome.NOT_APPLIED
    with suppress(Unavailable):
        await call(channel)
    assert channel.pending == 0


async def test_a_datagram_to_nobody_leaves_no_complaint_behind(wires: Wires, tmp_path: Path) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    before = len(asyncio.all_tasks())
    wires.channel(f"unix:{tmp_path}/nobody").datagram(b"anybody?")
    assert len(asyncio.all_tasks()) == before + 1
    await eventually(lambda: len(asyncio.all_tasks()) == before)  # It has tried to connect.
    gc.collect()
    assert complaints == []
