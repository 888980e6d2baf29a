"""The calling end: a channel towards one listener, and the session that it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from math import inf
from typing import Any

import msgspec

from ...context import Metadata
from ...errors import CoterieError, DeadlineExceeded, Outcome, Unavailable
from ..common.calls import refusal_of, too_large
from ..common.connecting import wait_to_send
from ..common.shared import heard
from ._wire_messages import Call, Cancel, Credit, Datagram
from .wire_calls import CallingSession, Complete, Pending
from .wire_link import WireLink

__all__ = ["NatsChannel"]

_PAUSES_S = (0.08, 0.04, 0.02, 0.01, 0.005)
_FIRST_PAUSES_S = (0.32, 0.16, *_PAUSES_S)
"""For one that was never reached: it may have begun to listen just now, and the members be busy."""


class NatsChannel:
    """Calls one address. Begins a session at the first use, and again after it was lost."""

    def __init__(self, address: str, subject: str, link: WireLink, *, closed: bool = False) -> None:
        self._address = address
        self._subject = subject
        self._link = link
        self._time = asyncio.get_running_loop().time
        self._session: CallingSession | None = None
        self._connecting: asyncio.Task[CallingSession] | None = None
        self._closed = closed
        self._pauses_s = list(_FIRST_PAUSES_S)
        """How long to wait, from the last to the first, for one whom nobody knows. Used up: only once."""

    @property
    def address(self) -> str:
        return self._address

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def pending(self) -> int:
        return 0 if self._session is None else len(self._session.pending)

    async def request(
        self, target: str, body: bytes, *, timeout_s: float, metadata: Metadata | None = None
    ) -> bytes | memoryview | msgspec.Raw:
        deadline = self._check(target, body, timeout_s)
        session = self._session
        if session is None or not session.usable:
            session = await self._connected(deadline)
        message = Call(session.next_id(), target, self._left_ms(deadline), msgspec.Raw(body), metadata)
        call = self._begin(session, message, deadline)
        try:
            reply: msgspec.Raw = await call.next()
            call.finish(Complete())
            return reply
        finally:
            self._leave(session, call)

    async def stream(
        self, target: str, body: bytes, *, timeout_s: float | None, metadata: Metadata | None = None
    ) -> AsyncGenerator[bytes | memoryview | msgspec.Raw, None]:
        deadline = self._check(target, body, timeout_s)
        limits, until = self._link.limits, deadline
        if timeout_s is None:
            until = self._time() + limits.connect_timeout_s
        session = await self._connected(until)
        timeout_ms, id_ = self._left_ms(deadline), session.next_id()
        message = Call(id_, target, timeout_ms, msgspec.Raw(body), metadata, limits.credit_items)
        call = self._begin(session, message, deadline)
        try:
            while True:
                try:
                    item = await call.next()
                except Complete:
                    return
                if call.taken * 2 >= limits.credit_items:
                    session.send(Credit(call.id, call.taken))
                    call.taken = 0
                yield item
        finally:
            self._leave(session, call)

    def _check(self, target: str, body: bytes, timeout_s: float | None) -> float:
        """Return the deadline of a call, or infinity; raise what is wrong with it before anything is sent."""
        if len(body) > self._link.limits.max_body_bytes:
            raise too_large(len(body), self._link.limits.max_body_bytes)
        if timeout_s is None:
            return inf
        if timeout_s <= 0:
            raise DeadlineExceeded(f"there was no time left for {target}", outcome=Outcome.NOT_APPLIED)
        return self._time() + timeout_s

    def _left_ms(self, deadline: float) -> int:
        return 0 if deadline == inf else max(1, int((deadline - self._time()) * 1000))

    @staticmethod
    def _begin(session: CallingSession, message: Call, deadline: float) -> Pending:
        """Send what asks for a call, and expect the answer."""
        call = Pending(message.id, message.target, deadline)
        call.number = session.send(message)
        session.pending[message.id] = call
        if deadline < session.deadlines.next:
            session.deadlines.watch(deadline)
        return call

    def _leave(self, session: CallingSession, call: Pending) -> None:
        """Let go of a call, and tell the listener if it may still be at it."""
        del session.pending[call.id]
        if call.end is None or isinstance(call.end, DeadlineExceeded):
            session.send(Cancel(call.id))

    def datagram(self, body: bytes) -> None:
        session = self._session
        if session is not None and session.open:
            if not session.congested and len(body) <= self._link.limits.max_body_bytes:
                session.send(Datagram(bytes(body)))
        elif not self._closed and self._connecting is None:
            self._connecting = self._begin_to_connect()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._session is not None:
            self._session.close(Unavailable("the channel was closed"))

    async def _connected(self, deadline: float) -> CallingSession:
        """Return a session that takes calls. Raises with the outcome "not applied" when there is none."""
        while True:
            if self._closed:
                raise Unavailable(f"the channel to {self.address} is closed", outcome=Outcome.NOT_APPLIED)
            session = self._session
            if session is not None and session.open:
                if session.draining:
                    raise Unavailable(f"{self.address} is draining", outcome=Outcome.NOT_APPLIED)
                if not session.congested:
                    return session
                waiting: Any = session.writable()
            else:
                if self._connecting is None:
                    self._connecting = self._begin_to_connect()
                waiting = asyncio.shield(self._connecting)
            await wait_to_send(waiting, deadline, address=self.address, closed=lambda: self._closed)

    def _begin_to_connect(self) -> asyncio.Task[CallingSession]:
        connecting = asyncio.create_task(self._connect())
        connecting.add_done_callback(heard)  # It may be that nobody waits for it: a datagram does not.
        return connecting

    async def _connect(self) -> CallingSession:
        try:
            session = await self._greet()
            while session.missing and self._link.clustered and self._pauses_s:
                # The members of a cluster learn from each other, a moment later, who listens at another one.
                await asyncio.sleep(self._pauses_s.pop())
                session = await self._greet()
            if session.reason is not None:
                raise session.reason
        except CoterieError as error:
            what = f"{self.address} cannot be reached: {error.message}"
            raise refusal_of(error.code, what) from error
        finally:
            self._connecting = None
        self._pauses_s = list(_PAUSES_S)
        self._session = session
        return session

    async def _greet(self) -> CallingSession:
        """Return a session that was welcomed, or is over."""
        link = self._link
        if not link.client.is_connected:
            raise Unavailable(f"there is no connection to {link.place}: {link.trouble}")
        session = CallingSession(link, self._subject)
        try:
            async with asyncio.timeout(link.limits.connect_timeout_s):
                await asyncio.wait((session.ready,))
        except TimeoutError:
            session.finish(Unavailable(f"no answer. {link.trouble}".strip()))
        except asyncio.CancelledError:
            session.close(Unavailable("the channel was closed"))
            raise
        return session
