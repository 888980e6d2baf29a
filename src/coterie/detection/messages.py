"""What nodes tell each other, and its bytes: msgpack arrays that begin with the kind of message.

Every message carries news (`rumors`) and loads. All is bounded, so that a message has at most some
kilobytes; what breaks a bound is not read at all.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated

import msgspec

__all__ = [
    "Ack",
    "Ask",
    "Beat",
    "LoadReport",
    "Message",
    "Nack",
    "Ping",
    "Rumor",
    "State",
    "decode",
    "encode",
]

Id = Annotated[str, msgspec.Meta(max_length=64)]
Address = Annotated[str, msgspec.Meta(max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class State(enum.IntEnum):
    """What is said of a node. Of two things said at the same incarnation the greater one counts."""

    ALIVE = 0
    SUSPECT = 1
    """It did not answer; it may still refute that."""
    DEAD = 2
    """It did not answer for so long that it is taken to be dead. If it lives after all, it says so."""
    LEFT = 3
    """It said itself that it leaves. That is final."""


class Rumor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One piece of news about a node.

    Only the node itself raises its `incarnation`, and by that overrules what is said of the former one.
    """

    id: Id
    state: State
    incarnation: Count
    by: Id = ""
    """Who suspects it, or holds it to be dead."""
    name: Id = ""
    address: Address = ""
    """Where it is reached; told with ALIVE only."""


class LoadReport(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How busy a node is: its calls under way. Of two reports the one with the greater `count` is newer."""

    id: Id
    count: Count
    load: Count


Rumors = Annotated[tuple[Rumor, ...], msgspec.Meta(max_length=40)]
Loads = Annotated[tuple[LoadReport, ...], msgspec.Meta(max_length=40)]


class Beat(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    """A heartbeat."""

    sender: Id
    loads: Loads
    rumors: Rumors


class Ping(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A probe: answer with `Ack`, if you are `to`. Another one may have the address of a dead node."""

    sender: Id
    loads: Loads
    rumors: Rumors
    number: Count
    to: Id


class Ack(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """The answer to the probe of that number, which the sender or, for an `Ask`, the target gave."""

    sender: Id
    loads: Loads
    rumors: Rumors
    number: Count


class Ask(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """Probe `target` for me, and tell me with `Ack` or `Nack`."""

    sender: Id
    loads: Loads
    rumors: Rumors
    number: Count
    target: Id


class Nack(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """The target did not answer me either, but you see that I do (Lifeguard)."""

    sender: Id
    loads: Loads
    rumors: Rumors
    number: Count


Message = Beat | Ping | Ack | Ask | Nack

encode: Callable[[Message], bytes] = msgspec.msgpack.Encoder().encode
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def decode(body: bytes | memoryview) -> Message:
    """Return the message in `body`; raise `msgspec.DecodeError` if there is none."""
    return _DECODER.decode(body)
