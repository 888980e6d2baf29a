"""What the ends of any wire say about a call, and the errors in it.

The messages are msgpack arrays whose first element is their kind. A wire adds how its calls begin, how its
two ends greet each other, and how they part, with other kinds.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from ...errors import (
    CoterieError,
    DeadlineExceeded,
    Outcome,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    RemoteError,
    TooLarge,
    Unavailable,
)
from ...ports.wire import Failure

__all__ = [
    "CANCELLED",
    "Cancel",
    "Credit",
    "Datagram",
    "End",
    "Failed",
    "Goodbye",
    "Id",
    "Item",
    "Refused",
    "Reply",
    "brief",
    "failed",
    "failure_of",
    "failure_to_send",
    "printable",
    "refusal_of",
    "too_large",
]

Id = Annotated[int, msgspec.Meta(ge=0)]
"""The number of a call between two ends, chosen by the caller; it has 64 bits at most."""


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


class Goodbye(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=16):
    """The sender drains: it finishes what it accepted and refuses what is new."""


CANCELLED = Failure(RemoteError.code, "the handler was cancelled")
"""For a handler that cancelled itself."""


def failure_to_send(error: BaseException) -> Failure:
    """Return what is sent of an error that a handler raised."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, CoterieError):
        return Failure(error.code, error.message, hint=error.hint or "", outcome=error.outcome)
    kind = type(error).__qualname__
    return Failure(RemoteError.code, str(error), detail=msgspec.msgpack.encode(kind))


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


def brief(id_: int, failure: Failure) -> Failed:
    """Return what always crosses the wire, also where `failure` is too large or holds what is no text."""
    message = failure.message[:1000].encode("utf-8", "backslashreplace").decode()
    return Failed(id_, failure.code, message, "", failure.outcome.value, b"", "")


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


def refusal_of(code: str, message: str, outcome: Outcome = Outcome.NOT_APPLIED) -> CoterieError:
    """Return the error of what a peer refused: a call, or to go on."""
    for kind in (Overloaded, DeadlineExceeded, PermissionDenied, ProtocolError):
        if code == kind.code:
            return kind(printable(message), outcome=outcome)
    return Unavailable(printable(message), outcome=outcome)


_MAX_SENTENCE = 500


def printable(text: str) -> str:
    """Return `text` of a peer for people: in one line, not long, and without what a terminal obeys."""
    cut = text if len(text) <= _MAX_SENTENCE else f"{text[:_MAX_SENTENCE]}..."
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def too_large(size: int, limit: int, *, outcome: Outcome = Outcome.NOT_APPLIED) -> TooLarge:
    """Return the error for what may not be sent: nobody saw any of it. Of a reply, `outcome` is unknown."""
    return TooLarge(
        f"{size} bytes in one message; the limit of the wire is {limit}",
        hint="send less at once, or stream it",
        outcome=outcome,
    )
