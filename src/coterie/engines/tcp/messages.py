"""The messages on the wire: those of any wire, and how its connections begin, live and end."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

import msgspec

from ...codec import Buffer
from ...context import Metadata
from ..common.calls import (
    Cancel,
    Credit,
    Datagram,
    End,
    Failed,
    Goodbye,
    Id,
    Item,
    Refused,
    Reply,
)

__all__ = [
    "MAGIC",
    "REPLY_HEAD_BYTES",
    "VERSION",
    "Cancel",
    "Credit",
    "Datagram",
    "End",
    "Failed",
    "Goodbye",
    "Hello",
    "Item",
    "Message",
    "Open",
    "Ping",
    "Pong",
    "Proof",
    "Refused",
    "Reject",
    "Reply",
    "Request",
    "Welcome",
    "decode",
    "encode",
    "pack_reply",
]

MAGIC = "coterie"
VERSION = 1


class Hello(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=0):
    """A caller's first message: who it is, which versions it speaks, and a challenge."""

    magic: str
    version: int
    nonce: bytes


class Welcome(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """The answer: the version that is spoken, a challenge, and the proof of the cluster key or nothing."""

    version: int
    nonce: bytes
    proof: bytes


class Proof(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """The caller's proof of the cluster key. Sent only where there is one."""

    proof: bytes


class Reject(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Why the sender closes the connection: the code of an error, and a sentence."""

    code: str
    message: str


class Request(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """Call `target`. `timeout_ms` is the time that is left, 0 for no limit."""

    id: Id
    target: str
    timeout_ms: int
    body: msgspec.Raw
    metadata: Metadata | None = None


class Open(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=9):
    """Call `target` for a stream, of which `credit` items may be sent for now."""

    id: Id
    target: str
    timeout_ms: int
    credit: int
    body: msgspec.Raw
    metadata: Metadata | None = None


class Ping(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=14):
    """Are you there?"""


class Pong(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=15):
    """Yes."""


Message = (
    Hello
    | Welcome
    | Proof
    | Reject
    | Request
    | Reply
    | Failed
    | Refused
    | Cancel
    | Open
    | Item
    | Credit
    | End
    | Datagram
    | Ping
    | Pong
    | Goodbye
)

encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
decode: Callable[[Buffer], Any] = msgspec.msgpack.Decoder(Message).decode
"""Raises `msgspec.DecodeError` for whatever is no message."""


REPLY_HEAD_BYTES = 11
pack_reply: Callable[..., bytes] = Struct(">IBBBQ").pack
"""What goes before the body of a `Reply`, for which the encoder would need two objects.

`pack_reply(REPLY_HEAD_BYTES + size, 0x93, 5, 0xCF, id)`: the length of the frame, an array of three,
the tag, the id as an unsigned integer of 64 bits; then comes the body, of `size` bytes.
"""
