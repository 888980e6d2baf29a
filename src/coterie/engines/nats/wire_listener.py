"""A listener: greets callers, and keeps a session for each."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from contextlib import suppress

import msgspec
from nats.aio.msg import Msg

from ...errors import Outcome, Overloaded, ProtocolError, Unavailable
from ...ports.wire import Handlers
from ..common.calls import printable
from ._wire_messages import VERSION, Bye, Hello, Message, decode
from .wire_answers import AnsweringSession
from .wire_link import WireLink

__all__ = ["NatsListener"]

_log = logging.getLogger("coterie.wire.nats")
_UNWIND_S = 1.0
"""How long `close` waits for cancelled handlers to clean up."""


class NatsListener:
    """Answers at one address."""

    def __init__(self, address: str, subject: str, handlers: Handlers, link: WireLink) -> None:
        self.link = link
        self.handlers = handlers
        self.context: contextvars.Context = contextvars.copy_context()
        self.sessions: set[AnsweringSession] = set()
        self.draining: bool = False
        self.closed: bool = False
        self._address = address
        self._subject = subject
        self._idle = asyncio.Event()

    @property
    def address(self) -> str:
        return self._address

    @property
    def pending(self) -> int:
        return sum(len(session.served) for session in self.sessions)

    async def greet(self, message: Msg) -> None:
        """Begin a session with whoever says hello; answer nothing to whoever only asks if we listen."""
        if not message.data:
            if message.reply and not self.closed:
                self.link.post(message.reply, b"", "")
            return
        try:
            batch = decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.link.refuse(message.reply, Bye(ProtocolError.code, f"a malformed message: {error}"[:500], 0))
            return
        if not batch.first or not batch.messages:
            return
        hello = batch.messages[0]
        if (refusal := self._refusal(hello, len(batch.messages))) is not None:
            self.link.refuse(message.reply, refusal)
        else:
            assert isinstance(hello, Hello)  # noqa: S101 - or it is refused
            to = message.reply.rpartition(".")[0]
            self.sessions.add(AnsweringSession(self, to, printable(hello.name)))

    def _refusal(self, hello: Message, count: int) -> Bye | None:
        if not isinstance(hello, Hello) or count != 1:
            return Bye(ProtocolError.code, "a session begins with a hello", 0)
        if hello.version != VERSION:
            return Bye(ProtocolError.code, f"this end speaks version {VERSION}, not {hello.version}", 0)
        if self.closed or self.draining:
            return Bye(Unavailable.code, "the node is draining", 0)
        if len(self.sessions) >= self.link.limits.max_sessions:
            return Bye(Overloaded.code, f"the listener has {len(self.sessions)} sessions, the most it may", 0)
        return None

    def datagram(self, body: bytes, peer: str) -> None:
        if self.handlers.datagram is not None and not self.draining:
            try:
                self.context.copy().run(self.handlers.datagram, body, peer)
            except Exception:  # noqa: BLE001 - it may not, but the session is not to blame
                _log.exception("a handler of datagrams failed")

    def forget(self, session: AnsweringSession) -> None:
        """Let go of a session that is over."""
        self.sessions.discard(session)
        self.check_idle()

    def check_idle(self) -> None:
        """Tell a drain that waits whether everything has ended."""
        if not any(session.served or not session.settled for session in self.sessions):
            self._idle.set()

    async def drain(self, timeout_s: float) -> int:
        if not self.draining:
            self.draining = True
            for session in self.sessions:
                session.drain()
        self._idle.clear()
        self.check_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        return self.pending

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        await self.link.leave(self._subject)
        me = asyncio.current_task()
        served = [each for session in self.sessions for each in session.served.values()]
        unwinding = [each.task for each in served if each.task is not None and each.task is not me]
        for session in tuple(self.sessions):
            session.close(Unavailable("the listener was closed", outcome=Outcome.UNKNOWN))
        if unwinding:
            await asyncio.wait(unwinding, timeout=_UNWIND_S)
        await self.link.flush()
