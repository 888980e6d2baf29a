"""A listener that drains finishes what it accepted, and leaves no caller in doubt about the rest."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from wire_tools import Raw, Wires, call, eventually, framed, packed

from coterie.engines.tcp._handshake import CallerHandshake
from coterie.engines.tcp.messages import Goodbye, Open, Ping, Pong, Refused, Reject, Reply, Request, Welcome
from coterie.errors import Outcome, Unavailable

ONE = msgspec.Raw(b"\x01")
KEY = "a key of some length"
LARGE = msgspec.Raw(packed(b"x" * 1_000_000))


async def told(raw: Raw) -> None:
    """Read that the listener drains."""
    assert await raw.receive() == Goodbye()
    assert await raw.receive() == Ping()


async def test_draining_answers_what_was_accepted(wires: Wires) -> None:
    await wires.listen()
    raw, channel = await wires.raw(), wires.channel()
    await raw.send(Request(1, "wait", 0, ONE))
    kept = asyncio.ensure_future(call(channel, "kept", "wait"))
    await eventually(lambda: wires.answers.started == 2)
    draining = asyncio.ensure_future(wires.listener.drain(20))
    await told(raw)
    await raw.send(Request(2, "echo", 0, ONE), Open(3, "count", 0, 5, ONE), Pong())
    assert await raw.receive() == Refused(2, "unavailable", "the node is draining")
    assert await raw.receive() == Refused(3, "unavailable", "the node is draining")
    late = await wires.raw()
    await late.send(Request(4, "echo", 0, ONE))
    await told(late)
    assert await late.receive() == Refused(4, "unavailable", "the node is draining")
    await late.send(Pong())
    with pytest.raises(Unavailable, match="drain") as caught:
        await call(channel)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert not draining.done()
    wires.answers.release.set()
    assert await raw.receive() == Reply(1, ONE)
    assert await kept == "kept"
    assert await draining == 0


async def test_what_is_answered_at_the_last_moment_still_leaves(wires: Wires) -> None:
    """The reply is given to the socket before the connection is closed."""
    await wires.listen()
    raw = await wires.raw()
    await raw.send(Request(1, "wait", 0, ONE), Request(2, "wait", 0, LARGE))
    await eventually(lambda: wires.answers.started == 2)
    draining = asyncio.ensure_future(wires.listener.drain(20))
    await told(raw)
    await raw.send(Pong())
    wires.answers.release.set()
    assert await draining == 0
    await wires.listener.close()
    assert [m for m in await raw.rest() if isinstance(m, Reply)] == [Reply(1, ONE), Reply(2, LARGE)]


async def test_a_drain_waits_until_each_caller_knows(wires: Wires) -> None:
    """What was sent before the caller read the goodbye is refused, and not cut off."""
    await wires.listen()
    quick, slow = await wires.raw(), await wires.raw()
    draining = asyncio.ensure_future(wires.listener.drain(20))
    for raw in (quick, slow):
        await told(raw)
    await quick.send(Pong(), Ping())
    assert await quick.receive() == Pong()
    assert not draining.done()
    await slow.send(Request(1, "echo", 0, ONE), Pong())
    assert await draining == 0
    await wires.listener.close()
    assert await slow.rest() == [Refused(1, "unavailable", "the node is draining")]


async def test_an_answer_to_an_earlier_ping_does_not_end_a_drain(wires: Wires) -> None:
    await wires.listen()
    raw = await wires.raw()
    await raw.send(Pong(), Pong(), Ping())  # The first two answer nothing.
    assert await raw.receive() == Pong()
    (connection,) = wires.listener.connections
    connection.ping()
    assert await raw.receive() == Ping()
    draining = asyncio.ensure_future(wires.listener.drain(20))
    await told(raw)
    await raw.send(Pong(), Request(1, "echo", 0, ONE))
    assert await raw.receive() == Refused(1, "unavailable", "the node is draining")
    assert not draining.done()
    await raw.send(Pong())
    assert await draining == 0


async def test_a_caller_that_never_answers_does_not_hold_a_drain_up_beyond_its_time(wires: Wires) -> None:
    await wires.listen()
    raw = await wires.raw()
    assert await wires.listener.drain(0.05) == 0
    await told(raw)
    draining = asyncio.ensure_future(wires.listener.drain(20))
    raw.vanish()
    assert await draining == 0


async def test_a_drain_waits_for_the_proof_of_who_was_welcomed(
    wires: Wires, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller may send requests behind its proof."""
    await wires.listen(cluster_key=KEY)
    raw, silent = await wires.stranger(), await wires.stranger()
    handshake = CallerHandshake(KEY, b"n" * 16)
    await raw.send(handshake.hello())
    welcome = await raw.receive()
    assert isinstance(welcome, Welcome)
    draining = asyncio.ensure_future(wires.listener.drain(20))
    await eventually(lambda: wires.listener.draining)
    await raw.send(handshake.receive(welcome), Request(1, "echo", 0, ONE))  # type: ignore[arg-type]
    await told(raw)
    assert await raw.receive() == Refused(1, "unavailable", "the node is draining")
    assert not draining.done()
    await raw.send(Pong())
    assert await draining == 0
    await silent.send(handshake.hello())
    assert await silent.rest() == [Reject("unavailable", "the node is draining")]
    assert not caplog.records  # It is nothing to worry about.


async def test_a_caller_that_comes_too_late_is_sure_and_worries_nobody(
    wires: Wires, caplog: pytest.LogCaptureFixture
) -> None:
    async def drained(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(Reject("unavailable", "the node is draining")))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(drained, "127.0.0.1") as server:
        channel = wires.channel("{}:{}".format(*server.sockets[0].getsockname()))
        with pytest.raises(Unavailable, match="the node is draining") as caught:
            await call(channel)
        await channel.close()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert not caplog.records


@pytest.mark.parametrize("key", ["", KEY], ids=["open", "key"])
async def test_no_call_is_left_in_doubt_by_a_drain_under_load(wires: Wires, key: str) -> None:
    """The listener is closed as soon as it is drained, while its callers call without a pause."""
    await wires.listen(cluster_key=key)
    channels = [wires.channel(cluster_key=key) for _ in range(4)]
    ends: list[Any] = []

    async def hammer(channel: Any, index: int) -> None:
        while True:
            try:
                assert await call(channel, index) == index
            except Unavailable as error:
                ends.append(error)
                return

    callers = [asyncio.ensure_future(hammer(channels[index % 4], index)) for index in range(200)]
    await eventually(lambda: wires.answers.started > 1000)
    assert await wires.listener.drain(20) == 0
    await wires.listener.close()
    await asyncio.gather(*callers)
    assert {error.outcome for error in ends} == {Outcome.NOT_APPLIED}
    assert len(ends) == len(callers)
