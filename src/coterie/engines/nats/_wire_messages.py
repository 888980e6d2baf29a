"""What the two ends of a session say to each other. Pure: values in, bytes out, and back.

A message of NATS carries a `Batch` of them, so that what is said at one time leaves as one. What does not
fit one leaves as a row of `Part`s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from ...context import Metadata
from ...errors import (
    CoterieError,
    DeadlineExceeded,
    Outcome,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    Unavailable,
)
from ...ports.wire import Failure

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
    "failed",
    "failure_of",
    "printable",
    "refusal_of",
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
_MAX_SENTENCE = 500

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


class Call(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Call `target`. `timeout_ms` is the time that is left, 0 for no limit.

    `credit` is None for a request; for a stream, how many items may be sent for now.
    """

    id: Natural
    target: str
    timeout_ms: Natural
    body: msgspec.Raw
    metadata: Metadata | None = None
    credit: Natural | None = None


class Reply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """The result of the request `id`."""

    id: Natural
    body: msgspec.Raw


class Item(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=5):
    """The next item of the stream `id`."""

    id: Natural
    body: msgspec.Raw


class End(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=6):
    """The stream `id` is complete."""

    id: Natural


class Failed(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=7):
    """The call `id` ended with an error of its handler."""

    id: Natural
    code: str
    message: str
    hint: str
    outcome: str
    detail: bytes
    traceback: str


class Refused(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=8):
    """The call `id` reached no handler: `unavailable`, `overloaded` or `deadline_exceeded`."""

    id: Natural
    code: str
    message: str


class Cancel(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=9):
    """The caller of `id` has left. There is no answer."""

    id: Natural


class Credit(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=10):
    """So many more items of the stream `id` may be sent."""

    id: Natural
    items: Natural


class Datagram(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=11):
    """A message without any promise."""

    body: bytes


class Goodbye(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=12):
    """The sender drains: it finishes what it accepted and refuses what is new."""


class Noted(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=13):
    """The goodbye was read: no call comes after this."""


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=14):
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


def failed(id_: int, error: Failure) -> Failed:
    """Return the failure as it crosses the wire."""
    outcome = error.outcome.value
    return Failed(id_, error.code, error.message, error.hint, outcome, error.detail, error.traceback)


def failure_of(message: Failed) -> Failure:
    """Return the failure that `message` carries."""
    return Failure(
        message.code,
        message.message,
        hint=message.hint,
        outcome=Outcome.NOT_APPLIED if message.outcome == Outcome.NOT_APPLIED.value else Outcome.UNKNOWN,
        detail=message.detail,
        traceback=message.traceback,
    )


def refusal_of(code: str, message: str, outcome: Outcome) -> CoterieError:
    """Return the error of what a peer refused, or of the end of a session."""
    for kind in (Overloaded, DeadlineExceeded, PermissionDenied, ProtocolError):
        if code == kind.code:
            return kind(printable(message), outcome=outcome)
    return Unavailable(printable(message), outcome=outcome)


def printable(text: str) -> str:
    """Return a peer's text for people: one line, not long, nothing that a terminal obeys."""
    cut = text[:_MAX_SENTENCE]
    return "".join(c if c.isprintable() else "?" for c in cut)
