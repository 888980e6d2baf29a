"""More peers than a listener takes: they are refused, with a reason, and all others live on."""

from __future__ import annotations

import logging
import sys

import pytest
from wire_tools import Wires, call, eventually

from coterie.engines.tcp import WireConfig
from coterie.engines.tcp._handshake import CallerHandshake
from coterie.engines.tcp.messages import Ping, Pong, Reject, Welcome
from coterie.errors import InvalidConfiguration, Outcome, Unavailable

HELLO = CallerHandshake("", b"n" * 16).hello()


async def test_connections_beyond_the_limit_are_refused(wires: Wires) -> None:
    await wires.listen(max_connections=3)
    first, second, third = [await wires.raw() for _ in range(3)]
    for _ in range(3):
        raw = await wires.stranger()
        assert await raw.rest() == [Reject("overloaded", "the listener has 3 connections, the most it may")]
    with pytest.raises(Unavailable, match="the listener has 3 connections, the most it may") as caught:
        await call(wires.channel())
    assert caught.value.outcome is Outcome.NOT_APPLIED
    for raw in (first, second, third):
        await raw.send(Ping())
        assert await raw.receive() == Pong()
    third.vanish()
    await eventually(lambda: len(wires.listener.connections) == 2)
    assert await call(wires.channel()) == 1


async def test_a_host_may_have_so_many_handshakes(wires: Wires) -> None:
    await wires.listen(max_strangers=3)
    known = await wires.raw()
    waiting = [await wires.stranger() for _ in range(3)]
    await eventually(lambda: len(wires.listener.connections) == 4)
    why = "3 connections of your host are in their handshake, the most that may"
    for _ in range(3):
        assert await (await wires.stranger()).rest() == [Reject("overloaded", why)]
    await known.send(Ping())
    assert await known.receive() == Pong()
    await waiting[0].send(HELLO)  # Who has said who it is makes room, and so does who has left.
    assert isinstance(await waiting[0].receive(), Welcome)
    waiting[1].vanish()
    await eventually(lambda: len(wires.listener.connections) == 3)
    for _ in range(2):
        await wires.stranger()
    await eventually(lambda: len(wires.listener.connections) == 5)
    assert await (await wires.stranger()).rest() == [Reject("overloaded", why)]


@pytest.mark.skipif(sys.platform != "linux", reason="only there all of 127.0.0.0/8 is this machine")
async def test_a_flood_from_one_host_does_not_keep_others_out(wires: Wires) -> None:
    await wires.listen(max_strangers=3)
    for _ in range(3):
        await wires.stranger()
    await eventually(lambda: len(wires.listener.connections) == 3)
    other = await wires.stranger(local_addr=("127.0.0.2", 0))
    await other.send(HELLO, Ping())
    assert isinstance(await other.receive(), Welcome)
    assert await other.receive() == Pong()


async def test_a_flood_does_not_fill_the_log(wires: Wires, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "coterie.wire")
    await wires.listen(max_connections=1)
    known = await wires.raw()
    for _ in range(100):
        await (await wires.stranger()).rest()
    levels = [record.levelno for record in caplog.records if record.name == "coterie.wire"]
    assert len(levels) == 100
    assert levels[:10] == [logging.WARNING] * 10
    assert levels.count(logging.DEBUG) > 0
    # One that is known is always worth a line.
    await known.send(b"\xc1")
    await known.rest()
    assert caplog.records[-1].levelno == logging.WARNING


async def test_nothing_is_kept_of_who_has_left(wires: Wires) -> None:
    await wires.listen(max_strangers=1)
    for _ in range(3):
        raw = await wires.stranger()
        await eventually(lambda: wires.listener.strangers)
        raw.vanish()
        await eventually(lambda: not wires.listener.connections)
        assert not wires.listener.strangers


@pytest.mark.parametrize("name", ["max_connections", "max_strangers", "max_in_flight", "credit_items"])
@pytest.mark.parametrize("value", [0, -1, 1 << 30])
def test_limits_must_make_sense(name: str, value: int) -> None:
    with pytest.raises(InvalidConfiguration, match=f"{name} must be between 1 and"):
        WireConfig(**{name: value})  # type: ignore[arg-type]
