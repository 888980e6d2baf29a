"""uvicorn's HTTP protocols, with the bounds that they lack.

uvicorn bounds neither the size of a head (with httptools) nor the time that it may take, keeps a
closing connection for as long as its peer reads nothing, and closes an idle connection at once on
shutdown, though a request may be on its way. `Bounded` adds what is missing to either of its
protocols. A request pays for one override of `data_received`; the rest is looked at once a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from ..errors import Outcome
from .problems import Problem

__all__ = ["Bounded", "Bounds", "protocol_class"]

# uvicorn warns of every malformed request. They are counted instead: a log that any stranger can
# fill is of no use.
_logger = logging.getLogger("coterie.gateway.protocol")
_logger.setLevel(logging.ERROR)

_REFUSE_OUTRIGHT = 2
"""Past this multiple of the limit, a connection is not even told that it is too many."""


class Bounds:
    """What the connections of one server share."""

    def __init__(
        self,
        *,
        max_head_bytes: int,
        head_timeout_s: float,
        stall_timeout_s: float,
        max_connections: int,
        refuse: Callable[..., Any],
        on_lost: Callable[[], None],
    ) -> None:
        self.max_head_bytes = max_head_bytes
        self.head_timeout_s = head_timeout_s
        self.stall_timeout_s = stall_timeout_s
        self.max_connections = max_connections
        self.refuse = refuse
        """The ASGI app that answers on connections that are too many."""
        self.on_lost = on_lost
        self.draining = False
        self.malformed = 0
        self.refused = 0
        self.overdue = 0


class Bounded(asyncio.Protocol):
    """A mixin before uvicorn's H11Protocol or HttpToolsProtocol, whose attributes it relies on."""

    bounds: Bounds
    transport: Any
    logger: logging.Logger
    app: Any
    cycle: Any
    connections: set[Any]
    timeout_keep_alive_task: asyncio.TimerHandle | None
    _head_bytes = 0
    _refusing = False
    _phase: tuple[str, Any] | None = None
    _phase_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.logger = _logger
        self.access_log = False
        super().connection_made(transport)
        bounds = self.bounds
        if len(self.connections) > bounds.max_connections:
            bounds.refused += 1
            self.app = bounds.refuse
            if len(self.connections) > bounds.max_connections * _REFUSE_OUTRIGHT:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.bounds.on_lost()

    def data_received(self, data: bytes) -> None:
        if self._refusing:
            return
        before = self.cycle
        within_body = before is not None and before.more_body
        super().data_received(data)
        if self.cycle is not before:
            self._head_bytes = 0
            if self.bounds.draining:
                self.cycle.keep_alive = False
        elif not within_body:
            # These bytes belong to a head that is not complete.
            self._head_bytes += len(data)
            if self._head_bytes > self.bounds.max_head_bytes and not self._refusing:
                self._refuse(431, f"the head has more than {self.bounds.max_head_bytes} bytes")

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP. Called by uvicorn."""
        self.bounds.malformed += 1
        self._refuse(400, "this is not a valid HTTP/1.1 request")

    def _unsupported_upgrade_warning(self) -> None:
        """Upgrades are ignored, as HTTP allows. Called by uvicorn, which would log it."""

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def start_drain(self) -> None:
        """Make the response that is under way the last one. uvicorn's `shutdown` closes idle connections."""
        if self.busy:
            self.cycle.keep_alive = False

    def close_idle(self) -> None:
        """Close the connection unless a request is being answered."""
        if not self.busy:
            self.transport.close()

    def sweep(self, now: float) -> None:
        """Let go of a connection that makes no progress. Called about once a second."""
        phase = self._stuck()
        if phase != self._phase:
            self._phase, self._phase_since = phase, now
            return
        if phase is None:
            return
        limit_s = self.bounds.stall_timeout_s if phase[0] == "unread" else self.bounds.head_timeout_s
        if now - self._phase_since >= limit_s:
            self.bounds.overdue += 1
            if phase[0] == "head" and self._head_bytes:
                self._refuse(408, f"the head did not arrive within {limit_s:g} s")
            else:
                self.transport.abort()

    def _stuck(self) -> tuple[str, Any] | None:
        """Return what the connection waits for that its peer could withhold for ever, or None.

        While a request is answered, its own deadline holds; while a connection is idle, uvicorn's
        keep-alive timer runs.
        """
        if self._refusing:
            return "end", None
        if unread := self.transport.get_write_buffer_size():
            return "unread", unread  # As long as the peer reads, the number changes.
        if self.transport.is_closing():
            return "end", None
        if self.busy:
            return None
        if self.cycle is not None and self.cycle.more_body:
            return "rest of a body", self.cycle
        return ("head", self.cycle) if self.timeout_keep_alive_task is None else None

    def _refuse(self, status: int, detail: str) -> None:
        if self.busy:
            self.transport.close()  # Anything written now would look like a part of that response.
            return
        phrase = HTTPStatus(status).phrase
        code = phrase.lower().replace(" ", "_")
        problem = Problem(
            type=f"urn:coterie:error:{code}",
            title=phrase,
            status=status,
            detail=detail,
            code=code,
            outcome=Outcome.NOT_APPLIED.value,
        )
        body = msgspec.json.encode(problem)
        head = (
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        # Closing on unread bytes would reset the connection and take the answer with it. So only our
        # side is closed; what still comes is dropped, until the peer closes or the sweep does.
        self._refusing = True
        self.transport.write_eof()


def protocol_class(bounds: Bounds) -> type[Bounded]:
    """Return a protocol for one server, on httptools where it is installed, else on h11."""
    members = {"bounds": bounds}
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol

        return type("BoundedH11Protocol", (Bounded, H11Protocol), members)
    return type("BoundedHttpToolsProtocol", (Bounded, HttpToolsProtocol), members)
