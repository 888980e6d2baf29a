"""The messages on the wire. Each is a msgpack array whose first element is its kind."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Annotated, Any

import msgspec

from ...codec import Buffer
from ...context import Metadata
from ...errors import Outcome
from ...ports.wire import Failure

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
    "failed",
    "failure_of",
    "pack_reply",
    "printable",
]

MAGIC = "coterie"
VERSION = 1

Id = Annotated[int, msgspec.Meta(ge=0)]
"""The number of a request or stream on its connection, chosen by the caller; it has 64 bits at most."""


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


class Reply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=5):
    """The result of the request `id`."""

    id: Id
    body: msgspec.Raw


class Failed(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=6):
    """The request or stream `id` ended with an error of its handler."""

    id: Id
    code: str
    message: str
    hint: str
    outcome: str
    detail: bytes
    traceback: str


class Refused(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=7):
    """The request or stream `id` reached no handler: `unavailable`, `overloaded` or `deadline_exceeded`."""

    id: Id
    code: str
    message: str


class Cancel(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=8):
    """The caller of `id` has left. There is no answer."""

    id: Id


class Open(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=9):
    """Call `target` for a stream, of which `credit` items may be sent for now."""

    id: Id
    target: str
    timeout_ms: int
    credit: int
    body: msgspec.Raw
    metadata: Metadata | None = None


class Item(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=10):
    """The next item of the stream `id`."""

    id: Id
    body: msgspec.Raw


class Credit(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=11):
    """So many more items of the stream `id` may be sent."""

    id: Id
    items: int


class End(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=12):
    """The stream `id` is complete."""

    id: Id


class Datagram(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=13):
    """A message without any promise."""

    body: bytes


class Ping(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=14):
    """Are you there?"""


class Pong(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=15):
    """Yes."""


class Goodbye(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=16):
    """The sender drains: it finishes what it accepted and refuses what is new."""


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


def failed(id_: int, failure: Failure) -> Failed:
    """Return `failure` as it crosses the wire."""
    return Failed(
        id_,
        failure.code,
        failure.message,
        failure.hint,
        failure.outcome.value,
        failure.detail,
        failure.traceback,
    )


def failure_of(message: Failed) -> Failure:
    """Return the failure that `message` carries."""
    outcome = Outcome.NOT_APPLIED if message.outcome == Outcome.NOT_APPLIED.value else Outcome.UNKNOWN
    return Failure(
        message.code,
        message.message,
        hint=message.hint,
        outcome=outcome,
        detail=message.detail,
        traceback=message.traceback,
    )


_MAX_SENTENCE = 500


def printable(text: str) -> str:
    """Return `text` of a peer for people: in one line, not long, and without what a terminal obeys."""
    cut = text if len(text) <= _MAX_SENTENCE else f"{text[:_MAX_SENTENCE]}..."
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
