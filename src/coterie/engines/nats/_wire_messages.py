"""What the two ends of a session say to each other. Pure: values in, bytes out, and back.

A message of NATS carries a `Batch` of them, so that what is said at one time leaves as one. What does not
fit one leaves as a row of `Part`s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from ...context import Metadata
from ..common.calls import Cancel, Credit, Datagram, End, Failed, Goodbye, Id, Item, Refused, Reply

__all__ = [
    "BATCH_HEAD_BYTES",
    "MESSAGE_HEAD_BYTES",
    "PART_HEAD_BYTES",
    "UNKNOWN",
    "VERSION",
    "Batch",
    "Bye",
    "Call",
    "Cancel",
    "Credit",
    "Datagram",
    "End",
    "Failed",
    "Goodbye",
    "Hello",
    "Item",
    "Message",
    "Noted",
    "Part",
    "Refused",
    "Reply",
    "Welcome",
    "decode",
    "decode_large",
    "encode",
]

VERSION = 1
UNKNOWN = -1
"""In a `Bye`: the sender does not know the session, and so not what it took of it."""
BATCH_HEAD_BYTES = 64
"""What a batch needs besides its messages, at most."""
PART_HEAD_BYTES = 16
"""What a part needs besides its bytes, at most."""
MESSAGE_HEAD_BYTES = 64 * 1024
"""What a message may have besides the body: the target, the metadata, and what holds them."""

Natural = Annotated[int, msgspec.Meta(ge=0)]


class Hello(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=0):
    """A caller's first message: the version that it speaks, and who it is, for logs."""

    version: int
    name: str


class Welcome(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """The answer: the version that is spoken."""

    version: int


class Bye(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """The session is over: the code of an error, a sentence, and how many messages were taken of it."""

    code: str
    message: str
    taken: int = UNKNOWN


class Call(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """Call `target`. `timeout_ms` is the time that is left, 0 for no limit.

    `credit` is None for a request; for a stream, how many items may be sent for now.
    """

    id: Id
    target: str
    timeout_ms: Natural
    body: msgspec.Raw
    metadata: Metadata | None = None
    credit: Natural | None = None


class Noted(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=14):
    """The goodbye was read: no call comes after this."""


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=9):
    """The next bytes of a message that is too large for one of NATS; `rest` bytes are still to come.

    Nothing comes between the parts of a message. The last one has no rest.
    """

    rest: Natural
    body: memoryview


Message = (
    Hello
    | Welcome
    | Bye
    | Call
    | Reply
    | Item
    | End
    | Failed
    | Refused
    | Cancel
    | Credit
    | Datagram
    | Goodbye
    | Noted
    | Part
)


class Batch(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Messages of one session. One without any is a sign of life.

    `first` is the number of the first message, counted from 1, so that a gap is seen; it is 0 for a `Bye`
    from outside of the session. `received` is how many bytes of batches the sender has received.
    """

    first: Natural
    received: Natural
    messages: list[Message]


encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
decode: Callable[[bytes], Batch] = msgspec.msgpack.Decoder(Batch).decode
"""Raises `msgspec.DecodeError` (or `UnicodeDecodeError`, `RecursionError`) for whatever is no batch."""
decode_large: Callable[[bytearray], Message] = msgspec.msgpack.Decoder(
    Call | Reply | Item | Failed | Datagram
).decode
"""Decode what came in parts: only what holds a body, or an error, may be so large."""
