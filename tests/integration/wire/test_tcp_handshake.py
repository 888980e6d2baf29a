"""Who may talk: the cluster key, from both ends."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from wire_tools import Raw, Wires, call, eventually

from coterie.engines.tcp._handshake import CallerHandshake, ListenerHandshake
from coterie.engines.tcp.config import WireConfig
from coterie.engines.tcp.messages import (
    MAGIC,
    VERSION,
    Hello,
    Message,
    Proof,
    Reject,
    Reply,
    Request,
    Welcome,
)
from coterie.errors import InvalidConfiguration, Outcome, PermissionDenied, Unavailable

KEY = "a key of some length"
OTHER = "another key, as long"
ONE = msgspec.Raw(b"\x01")


async def test_the_right_key(wires: Wires) -> None:
    await wires.listen(cluster_key=KEY)
    assert wires.wires[0].guarantees.authenticated
    assert not wires.wires[0].guarantees.encrypted
    channel = wires.channel(cluster_key=KEY)
    assert await asyncio.gather(*(call(channel, index) for index in range(10))) == list(range(10))


@pytest.mark.parametrize(
    ("listener", "caller", "says"),
    [
        (KEY, OTHER, "the peer does not know the cluster key"),
        (KEY, "", "the peer demands a cluster key"),
        ("", KEY, "the peer does not know the cluster key"),
    ],
    ids=["wrong", "missing", "not asked for"],
)
async def test_another_key_or_none(wires: Wires, listener: str, caller: str, says: str) -> None:
    await wires.listen(cluster_key=listener)
    channel = wires.channel(cluster_key=caller)
    with pytest.raises(PermissionDenied, match=says) as caught:
        await call(channel)
    assert "COTERIE_CLUSTER_KEY" in str(caught.value)
    assert KEY not in str(caught.value)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert wires.answers.started == 0
    assert await call(wires.channel(cluster_key=listener)) == 1


@pytest.mark.parametrize("proof", [b"", b"\x00" * 32, b"x" * 31, b"x" * 33])
async def test_a_caller_that_skips_or_forges_the_proof(wires: Wires, proof: bytes) -> None:
    await wires.listen(cluster_key=KEY)
    raw = await wires.stranger()
    await raw.send(Hello(MAGIC, VERSION, b"n" * 16), Proof(proof), Request(1, "echo", 0, ONE))
    assert isinstance(await raw.receive(), Welcome)
    assert await raw.receive() == Reject(
        "permission_denied", "the caller did not prove that it knows the cluster key"
    )
    assert await raw.receive() is None
    raw = await wires.stranger()
    await raw.send(Hello(MAGIC, VERSION, b"n" * 16), Request(1, "echo", 0, ONE))
    assert isinstance(await raw.receive(), Welcome)
    assert isinstance(await raw.receive(), Reject)
    assert wires.answers.started == 0


async def test_a_proof_cannot_be_replayed_or_reflected(wires: Wires) -> None:
    await wires.listen(cluster_key=KEY)
    handshake = CallerHandshake(KEY, b"n" * 16)
    first = await wires.stranger()
    await first.send(handshake.hello())
    welcome = await first.receive()
    assert isinstance(welcome, Welcome)
    proof = handshake.receive(welcome)
    assert proof is not None
    await first.send(proof, Request(1, "echo", 0, ONE))
    assert await first.receive() == Reply(1, ONE)
    for replayed in (True, False):
        raw = await wires.stranger()
        await raw.send(handshake.hello())
        welcome = await raw.receive()
        assert isinstance(welcome, Welcome)
        await raw.send(proof if replayed else Proof(welcome.proof), Request(1, "echo", 0, ONE))
        assert isinstance(await raw.receive(), Reject)


async def test_the_key_and_the_first_call_may_come_together(wires: Wires) -> None:
    await wires.listen(cluster_key=KEY)
    handshake = CallerHandshake(KEY, b"n" * 16)
    raw = await wires.stranger()
    await raw.send(handshake.hello())
    proof = handshake.receive(await raw.receive())  # type: ignore[arg-type]
    assert proof is not None
    large = msgspec.Raw(msgspec.msgpack.encode(b"x" * 100_000))
    await raw.send(proof, Request(1, "echo", 0, large))
    answer = await raw.receive()
    assert isinstance(answer, Reply)
    assert bytes(answer.body) == bytes(large)


def relay(caller: CallerHandshake, listener: ListenerHandshake) -> None:
    """Carry the messages of a handshake to and fro until both ends are done."""
    welcome = listener.receive(caller.hello())
    assert welcome is not None
    proof = caller.receive(welcome)
    if proof is not None:
        assert listener.receive(proof) is None
    assert listener.complete


@pytest.mark.parametrize("key", ["", KEY, "ключ 🔑 of the cluster"])
def test_the_machines_agree(key: str) -> None:
    relay(CallerHandshake(key, b"a" * 16), ListenerHandshake(key, b"b" * 16))


def test_a_listener_that_only_echoes_is_found_out() -> None:
    caller = CallerHandshake(KEY, b"a" * 16)
    for proof in (b"", b"a" * 16, b"x" * 32):
        with pytest.raises(PermissionDenied):
            caller.receive(Welcome(VERSION, b"a" * 16, proof))


class Deaf:
    """A listener that accepts connections and then does what `answer` says."""

    def __init__(self, wires: Wires, *answers: Message | bytes, then_close: bool = False) -> None:
        self.wires = wires
        self.answers = answers
        self.then_close = then_close
        self.accepted = 0

    async def start(self) -> str:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.server = server
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        raw = Raw(reader, writer)
        self.wires.raws.append(raw)
        for answer in self.answers:
            await raw.send(answer)
        if self.then_close:
            raw.vanish()
        await raw.rest()
        raw.vanish()

    async def stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()


@pytest.mark.parametrize(
    ("answers", "close", "says"),
    [
        ((), False, "no answer in time|no handshake"),
        ((), True, "closed|reset"),
        ((Welcome(7, b"n" * 16, b""),), False, "version 7"),
        ((Welcome(VERSION, b"", b""),), False, "nonce"),
        ((Reject("protocol_error", "version 1 is not spoken here"),), True, "version 1 is not spoken here"),
        ((Request(1, "echo", 0, ONE),), False, "began with Request"),
    ],
    ids=["silent", "closes", "version", "nonce", "reject", "request"],
)
async def test_a_listener_that_does_not_do_its_part(
    wires: Wires, answers: Any, close: bool, says: str
) -> None:
    deaf = Deaf(wires, *answers, then_close=close)
    address = await deaf.start()
    channel = wires.channel(address, hello_timeout_s=0.2, connect_timeout_s=0.3, longest_backoff_s=0.001)
    with pytest.raises(Unavailable, match=says) as caught:
        await call(channel, timeout_s=5)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert channel.pending == 0
    await channel.close()
    await deaf.stop()
    await eventually(lambda: deaf.accepted >= 1)


@pytest.mark.parametrize("key", ["short", "x" * 15])
def test_a_short_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidConfiguration, match="at least 16 characters"):
        WireConfig(cluster_key=key)


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(WireConfig(cluster_key=KEY))
