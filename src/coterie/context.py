"""Where a handle finds the node it runs on: the one ContextVar of Coterie.

Module-level handles (`stock`, `payments`) are declarations without state. At each use they ask
`current()` for the call they run in, and its `bindings` for what this node made of the declaration,
so that several nodes live in one process in tests and in simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

from .errors import CoterieError, NotRunning, Outcome

__all__ = ["CURRENT", "Call", "Metadata", "current", "note_failure"]


class Metadata(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What travels with a call besides its arguments and its deadline."""

    traceparent: str | None = None
    """W3C trace context, version 00."""

    idempotency_key: str | None = None

    causal: bytes | None = None
    """The session's causal context, opaque to the wire."""

    retry: int = 0
    """How many attempts went before this one."""


class Call(msgspec.Struct, eq=False):
    """The call that the running code serves, or the root call of a node or of a connection.

    `deadline` is an absolute time of the event loop's clock in seconds, or None for no deadline.
    """

    node: str
    bindings: Mapping[object, Any]
    deadline: float | None = None
    metadata: Metadata | None = None
    key: str | None = None
    """The idempotency key of the calls that the running code makes; that of its own is in `metadata`."""
    acted: bool = False
    """Whether the running code has changed something through a handle, or may have: then an error that it
    lets through does not say that the whole call had no effect."""

    def __repr__(self) -> str:
        return f"Call(node={self.node!r}, deadline={self.deadline!r}, metadata={self.metadata!r})"


CURRENT: ContextVar[Call] = ContextVar("coterie_call")


def current() -> Call:
    """Return the call that the running code serves; raise `NotRunning` outside of any node."""
    try:
        return CURRENT.get()
    except LookupError:
        raise NotRunning(
            "this handle was used outside of a running node",
            hint="call it from a service, or inside `async with app.connect():`",
        ) from None


def note_failure(error: BaseException) -> None:
    """Note that the running code has acted, unless `error` says that what failed certainly did nothing."""
    if not isinstance(error, CoterieError) or error.outcome is not Outcome.NOT_APPLIED:
        current().acted = True
