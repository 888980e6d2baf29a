"""The `Wire` port: request, reply, stream, cancel and datagram between nodes.

Bodies are opaque bytes (one msgpack value each) to the wire; the services above it know their types.

The contract, checked by `coterie.conformance.wire`:

* A request reaches its handler at most once.
* Each request ends in exactly one way: a reply, a `Failure` that the handler or the peer sent,
  `DeadlineExceeded` at its deadline, or `Unavailable` when the connection is lost, with the outcome
  `not_applied` only if the request certainly never reached a handler.
* Cancelling the caller of a request cancels its handler; so does losing the connection.
* The deadline travels as remaining time and is checked again before the handler starts.
* Items of a stream arrive in order, without a gap, and a slow reader slows the sender: no more than
  a fixed number of items is under way.
* A malformed or oversized frame closes its own connection, with a reason, and harms nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from ..context import Metadata
from ..errors import Outcome
from .guarantees import Scope

__all__ = ["Channel", "Failure", "Handlers", "Listener", "Metadata", "Request", "Wire", "WireGuarantees"]


class Failure(Exception):
    """An error as it crosses the wire. `code` is that of a `CoterieError` or the name of a declared error.

    `detail` is a msgpack value that the declared error is rebuilt from. Handlers raise it to send it,
    callers catch it; the services layer turns it into the declared type on both sides.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        outcome: Outcome = Outcome.UNKNOWN,
        detail: bytes = b"",
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.outcome = outcome
        self.detail = detail
        self.traceback = traceback


class Request(msgspec.Struct, gc=False):
    """A request as its handler gets it. `deadline` is a time of the loop's clock, or None."""

    target: str
    """What is called: `Service.method`."""
    body: bytes | memoryview | msgspec.Raw
    deadline: float | None
    metadata: Metadata | None
    peer: str
    """The caller's address, for logs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Handlers:
    """What a listener does with what arrives."""

    request: Callable[[Request], Coroutine[Any, Any, bytes]]
    """Answers a request. The wire steps it to its first await before making a task of it."""
    stream: Callable[[Request], AsyncGenerator[bytes, None]]
    """Answers a request for a stream; closed when the caller leaves."""
    datagram: Callable[[bytes, str], None] | None = None
    """Takes a datagram and its sender's address. Must not raise or wait."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WireGuarantees:
    """What a wire promises."""

    engine: str
    scope: Scope
    max_body_bytes: int = 16 * 1024 * 1024
    encrypted: bool = False
    authenticated: bool = False
    notes: tuple[str, ...] = ()


class Channel(Protocol):
    """The calling side towards one address. Connects at the first use and again after a loss."""

    @property
    def address(self) -> str: ...

    @property
    def pending(self) -> int:
        """How many requests and streams are under way."""
        ...

    async def request(
        self, target: str, body: bytes, *, timeout_s: float, metadata: Metadata | None = None
    ) -> bytes | memoryview | msgspec.Raw:
        """Call `target` and return the body of the reply. Raises as the module's contract says."""
        ...

    def stream(
        self, target: str, body: bytes, *, timeout_s: float | None, metadata: Metadata | None = None
    ) -> AsyncIterator[bytes | memoryview | msgspec.Raw]:
        """Call `target` and iterate over the bodies that it sends; `timeout_s` bounds the whole stream.

        Leaving the iterator early (`aclose`) cancels the handler.
        """
        ...

    def datagram(self, body: bytes) -> None:
        """Send `body` without any promise that it arrives, once or at all. Never waits or raises."""
        ...

    async def close(self) -> None:
        """End the connection; what is under way ends with `Unavailable`. Idempotent."""
        ...


class Listener(Protocol):
    """The answering side at one address."""

    @property
    def address(self) -> str:
        """Where peers reach it, with the port that was really bound."""
        ...

    @property
    def pending(self) -> int:
        """How many requests and streams are being answered."""
        ...

    async def drain(self, timeout_s: float) -> int:
        """Take nothing new, tell the peers so, and wait for what is under way.

        New requests are refused with `Unavailable`, outcome `not_applied`. Returns how many were still
        under way when the time was over.
        """
        ...

    async def close(self) -> None:
        """Close all connections at once; handlers under way are cancelled. Idempotent."""
        ...


class Wire(Protocol):
    """Carries calls between nodes; see the module for the contract."""

    @property
    def guarantees(self) -> WireGuarantees: ...

    async def listen(self, address: str, handlers: Handlers) -> Listener:
        """Answer at `address`, in the form of the wire.

        Over sockets it is `host:port` (port 0 for any free one) or `unix:/path`, over NATS `nats:NAME`
        (`nats:0` for any free name), in memory `memory:NAME` (`memory:0`).

        Raises `InvalidConfiguration` when the address is none of this wire, is in use, or may not be
        bound: over sockets, anything beyond loopback needs mutual TLS or a cluster key.
        """
        ...

    def connect(self, address: str) -> Channel:
        """Return a channel to `address`. Does not wait; the first call connects."""
        ...

    async def close(self) -> None:
        """Close all listeners and channels. Idempotent."""
        ...
