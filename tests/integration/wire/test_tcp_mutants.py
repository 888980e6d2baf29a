"""Take one safeguard of the wire away, and a named test of this folder must fail: the tests can fail."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import test_tcp_crowds as crowds
import test_tcp_drain as drain
import test_tcp_handshake as handshake
import test_tcp_hostile as hostile
import test_tcp_peers as peers
import test_tcp_tls as tls
from wire_tools import Wires, call, open_wires

from coterie.codec.frames import FrameSplitter
from coterie.engines.tcp import _handshake, connection
from coterie.engines.tcp.channel import TcpChannel
from coterie.engines.tcp.config import Address
from coterie.engines.tcp.connection import Connection
from coterie.engines.tcp.listener import AcceptedConnection, TcpListener, _Served
from coterie.errors import CoterieError

CAUGHT = (AssertionError, pytest.fail.Exception, CoterieError, TimeoutError)

Test = Callable[[Wires], Awaitable[None]]
Replacements = Mapping[tuple[Any, str], Any]


@dataclass(frozen=True)
class Mutant:
    """Which test must fail when what is replaced."""

    caught_by: Test
    replacements: Replacements


MUTANTS: dict[str, Mutant] = {}


def mutant(caught_by: Test) -> Callable[[Callable[[], Replacements]], None]:
    def register(build: Callable[[], Replacements]) -> None:
        MUTANTS[build.__name__] = Mutant(caught_by, build())

    return register


def with_good(test: Callable[..., Awaitable[None]], *arguments: Any) -> Test:
    async def run(wires: Wires) -> None:
        await wires.listen()
        channel = wires.channel()
        await call(channel)
        wires.answers.started = 1
        await test(wires, channel, *arguments)

    return run


async def forged_proof(wires: Wires) -> None:
    await handshake.test_a_caller_that_skips_or_forges_the_proof(wires, b"\x00" * 32)


async def wrong_key(wires: Wires) -> None:
    says = "the peer does not know the cluster key"
    await handshake.test_another_key_or_none(wires, handshake.KEY, handshake.OTHER, says)


@mutant(forged_proof)
def takes_any_proof_of_a_caller() -> Replacements:
    """The listener does not compare the proof."""

    class Agreeable:
        compare_digest = staticmethod(lambda one, other: True)
        digest = staticmethod(hmac.digest)

    return {(_handshake, "hmac"): Agreeable}


@mutant(wrong_key)
def proves_nothing() -> Replacements:
    """The proof does not depend on the key."""
    return {(_handshake, "_prove"): lambda key, role, a, b: b"proof" if key else b""}


@mutant(handshake.test_a_proof_cannot_be_replayed_or_reflected)
def proofs_can_be_reflected() -> Replacements:
    """A proof is the same in both roles."""
    prove = _handshake._prove
    return {(_handshake, "_prove"): lambda key, role, a, b: prove(key, "", a, b)}


@mutant(handshake.test_a_proof_cannot_be_replayed_or_reflected)
def proofs_can_be_replayed() -> Replacements:
    """A proof does not depend on the listener's nonce."""
    prove = _handshake._prove
    return {(_handshake, "_prove"): lambda key, role, a, b: prove(key, role, a, b"")}


@mutant(
    with_good(
        hostile.test_a_bad_hello,
        hostile.Hello(hostile.MAGIC, 2, b"n" * 16),
        "version 2 of the wire is not spoken here, only 1",
    )
)
def speaks_any_version() -> Replacements:
    """The listener does not look at the version."""
    receive = _handshake.ListenerHandshake.receive

    def lenient(self: Any, message: Any) -> Any:
        if isinstance(message, hostile.Hello):
            message = hostile.Hello(message.magic, hostile.VERSION, message.nonce)
        return receive(self, message)

    return {(_handshake.ListenerHandshake, "receive"): lenient}


@mutant(with_good(hostile.test_an_oversized_frame_is_refused_by_its_length))
def has_no_limit_of_a_frame() -> Replacements:
    """Any length of a frame is waited for."""
    feed = FrameSplitter.feed

    def endless(self: FrameSplitter, data: Any) -> Any:
        self.max_bytes = 1 << 40
        return feed(self, data)

    return {(FrameSplitter, "feed"): endless}


@mutant(with_good(hostile.test_a_hello_larger_than_a_hello_is_refused_by_its_length))
def strangers_may_send_much() -> Replacements:
    """A peer that has not said who it is may send frames of full size."""
    return {(connection, "_HELLO_BYTES"): 1 << 24}


@mutant(hostile.test_many_calls_at_once_are_refused_beyond_the_limit)
def has_no_limit_of_calls() -> Replacements:
    """A connection may have any number of calls under way."""
    create = AcceptedConnection.__init__

    def boundless(self: AcceptedConnection, listener: TcpListener, nonce: bytes) -> None:
        create(self, listener, nonce)
        self._max_in_flight = 1 << 40

    return {(AcceptedConnection, "__init__"): boundless}


def takes_all(self: TcpListener, peer: AcceptedConnection) -> None:
    self.connections.add(peer)


@mutant(crowds.test_connections_beyond_the_limit_are_refused)
def has_no_limit_of_connections() -> Replacements:
    """Whoever connects is taken."""
    return {(TcpListener, "admit"): takes_all}


@mutant(crowds.test_a_host_may_have_so_many_handshakes)
def has_no_limit_of_strangers() -> Replacements:
    """Any number of peers may keep silent."""
    return {(TcpListener, "admit"): takes_all}


@mutant(crowds.test_a_host_may_have_so_many_handshakes)
def remembers_strangers() -> Replacements:
    """Who has said who it is still counts as a stranger."""
    return {(AcceptedConnection, "established"): Connection.established}


@mutant(with_good(hostile.test_garbage, b"\x00\x00\x00\x01\xc1", True))
def closes_without_a_reason() -> Replacements:
    """A peer that breaks the protocol is not told."""
    return {(Connection, "abort"): Connection.close}


@mutant(peers.test_a_peer_that_never_says_hello_is_dropped)
def waits_for_a_hello_for_ever() -> Replacements:
    return {(Connection, "_no_hello"): lambda self: None}


@mutant(peers.test_a_silent_peer_is_asked_and_dropped)
def does_not_look_for_signs_of_life() -> Replacements:
    return {(Connection, "_look"): lambda self: None}


@mutant(peers.test_a_peer_that_vanishes_cancels_its_calls)
def calls_outlive_their_connection() -> Replacements:
    return {(AcceptedConnection, "lost"): lambda self, reason: self._listener.connections.discard(self)}


@mutant(peers.test_from_a_reader_that_stops_nothing_more_is_taken_and_then_it_is_dropped)
def takes_more_from_who_does_not_read() -> Replacements:
    """What waits to be written does not stop the reading."""
    return {(AcceptedConnection, "pause_writing"): Connection.pause_writing}


@mutant(peers.test_replies_to_a_peer_that_never_reads_are_bounded)
def replies_into_memory() -> Replacements:
    """What was asked for is answered, however much waits to be read."""
    return {(AcceptedConnection, "_overfull"): property(lambda self: False)}


@mutant(peers.test_a_stream_to_a_reader_that_stops_waits_for_it)
def streams_into_memory() -> Replacements:
    """A stream goes on although its items wait to be written."""
    return {(Connection, "congested"): property(lambda self: False)}


@mutant(drain.test_draining_answers_what_was_accepted)
def drains_at_once() -> Replacements:
    """A drain does not wait."""

    async def at_once(self: TcpListener, timeout_s: float) -> int:
        self.draining = True
        return self.pending

    return {(TcpListener, "drain"): at_once}


@mutant(drain.test_a_drain_waits_until_each_caller_knows)
def drains_without_an_answer() -> Replacements:
    """A drain waits for what was read, and not for what a caller may have sent."""
    return {(AcceptedConnection, "settled"): property(lambda self: True)}


async def beyond_loopback(wires: Wires) -> None:
    with pytest.raises(CoterieError, match="needs a cluster key or mutual TLS"):
        await wires.listen(tls.BEYOND[0])


@mutant(beyond_loopback)
def listens_anywhere() -> Replacements:
    """Every address passes for this machine's own."""
    return {(Address, "loopback"): property(lambda self: True)}


@mutant(peers.test_late_calls_leave_nothing_behind)
def late_calls_run_on() -> Replacements:
    """Neither the caller nor its clock cancels a call on the listener."""
    return {(_Served, "cancel"): lambda self, by: None}


async def nobody_there(wires: Wires) -> None:
    await peers.test_nobody_there(wires)


@mutant(nobody_there)
def says_unknown_when_nobody_is_there() -> Replacements:
    """A call that was never sent is said to have perhaps been made."""
    connected = TcpChannel._connected

    async def unsure(self: TcpChannel, deadline: float) -> Any:
        try:
            return await connected(self, deadline)
        except CoterieError as error:
            raise type(error)(error.message) from error

    return {(TcpChannel, "_connected"): unsure}


async def check(broken: Mutant, *, within_s: float) -> None:
    async with asyncio.timeout(within_s), open_wires() as wires:
        await broken.caught_by(wires)


@pytest.mark.parametrize("name", MUTANTS)
async def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = MUTANTS[name]
    await check(broken, within_s=20)
    for (owner, attribute), replacement in broken.replacements.items():
        monkeypatch.setattr(owner, attribute, replacement)
    with pytest.raises(CAUGHT):  # A mutant may hang where the whole answers.
        await check(broken, within_s=1.5)
