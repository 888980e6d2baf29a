"""What both ends of a session do: number what they say, see gaps, slow down, look for signs of life.

Core NATS has no connections between its clients. A session is made of two subjects, one for each end. NATS
keeps the order of what one client sends to another, but may lose some of it: so the messages of a session
are numbered, and a gap ends it. Each batch names the subject of its sender for replies, with the number of
its first message: a server that knows nobody at the other end says so there at once, and that neither this
message nor a later one was taken.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import CoterieError, Outcome, ProtocolError, Unavailable
from ..common.calls import printable, refusal_of, too_large
from ._wire_messages import UNKNOWN, Batch, Bye, Message, decode, encode
from ._wire_order import Incoming, Outgoing

if TYPE_CHECKING:
    from .wire_link import WireLink

__all__ = ["Session"]

_log = logging.getLogger("coterie.wire.nats")


class Session:
    """One end of a session. The two subclasses are the calling and the answering end."""

    def __init__(self, link: WireLink, to: str) -> None:
        self.link = link
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.to = to
        """The subject of the other end."""
        self.token: str = link.add(self)
        self.subject: str = f"{link.base}.{self.token}"
        """The subject of this end."""
        self.reason: CoterieError | None = None
        """Why the session is over."""
        self.missing: bool = False
        """Whether it is over because a server knew nobody at the other end."""
        self.lost_from: int = 0
        """Messages from this number on certainly did not arrive. Set when the session is over."""
        self.incoming: Incoming = Incoming(link.max_message_bytes)
        self._out = Outgoing(link.frame_bytes)
        self._window_bytes = link.window_bytes
        self._max_message_bytes = link.max_message_bytes
        self._leaving = False
        self._sent_bytes = 0
        self._acknowledged_bytes = 0
        self._received_bytes = 0
        self._told_bytes = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._heard = self.loop.time()
        self._quiet = True  # whether nothing was sent since the last look
        self._looks_at = self._heard + link.limits.keepalive_s
        self._look_timer = self.loop.call_at(self._looks_at, self._look)

    # What the two ends define.

    def received(self, message: Message) -> None:
        """Take a message. May raise one of Coterie's errors, which ends the session."""
        raise NotImplementedError

    def lost(self, reason: CoterieError) -> None:
        """The session is over: end what was under way in it."""
        raise NotImplementedError

    # Sending

    @property
    def open(self) -> bool:
        return self.reason is None

    @property
    def waiting_bytes(self) -> int:
        """How much waits to leave, or has left and was not received yet."""
        return self._out.waiting_bytes + self._sent_bytes - self._acknowledged_bytes

    @property
    def congested(self) -> bool:
        """Whether nothing that can wait should be sent."""
        out = self._out
        return out.waiting_bytes + self._sent_bytes - self._acknowledged_bytes >= self._window_bytes

    async def writable(self) -> None:
        """Return when the other end has received most of what it was sent, or the session is over."""
        await self._writable.wait()

    def send(self, message: Message) -> int:
        """Send `message` with the others of this iteration of the loop.

        Returns its number: if that did not arrive, or what was before it, the message did not. Raises
        `TooLarge`; nothing of it is sent then. Lost if the session is over.
        """
        frame = encode(message)
        if len(frame) > self._max_message_bytes:
            raise too_large(len(frame), self._max_message_bytes)
        if self.reason is not None:
            return self._out.numbered
        number = self._out.add(frame)
        if not self._leaving:
            self._leaving = True
            self.loop.call_soon(self._leave)
        if self.congested:
            self._writable.clear()
        return number

    def _leave(self) -> None:
        """Let go what may leave: no more than the window is under way."""
        self._leaving = False
        under_way = self._sent_bytes - self._acknowledged_bytes
        while self._out.waiting_bytes and under_way < self._window_bytes:
            under_way += self._post(self._out.take())

    def _post(self, messages: list[Any]) -> int:
        """Send one batch of what waited, or a mere sign of life; return its size."""
        first = self._out.left - len(messages) + 1
        data = encode((first, self._received_bytes, messages))
        self._told_bytes = self._received_bytes
        if messages:  # A sign of life is not counted: it must pass whatever the window is.
            self._sent_bytes += len(data)
        self._quiet = False
        self.link.post(self.to, data, f"{self.subject}.{first}")
        return len(data)

    # Receiving

    def receive(self, data: bytes, sender: str) -> None:
        """Take a batch. `sender` is the subject of the other end, or empty for a word from outside."""
        if self.reason is not None:
            return
        try:
            batch = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.close(ProtocolError(f"a malformed message: {error}"))
            return
        if not batch.first:
            said = batch.messages[0] if batch.messages else None
            if isinstance(said, Bye):
                self._farewell(said)
            return
        if not self.meets(sender, batch):
            return
        self._heard = self.loop.time()
        self._acknowledge(batch.received)
        if batch.messages:
            self._received_bytes += len(data)
        self._take_all(batch)
        if self.open and self._received_bytes - self._told_bytes >= self._window_bytes // 4:
            self._leave()
            if self._received_bytes != self._told_bytes:  # The window is full, or there is nothing to say.
                self._post([])

    def meets(self, sender: str, batch: Batch) -> bool:
        """Whether a batch comes from the other end of this session."""
        return sender == self.to

    def _take_all(self, batch: Batch) -> None:
        try:
            for message in self.incoming.take(batch, self._heard):
                if isinstance(message, Bye):
                    self._farewell(message)
                else:
                    self.received(message)
                if self.reason is not None:
                    return
        except CoterieError as error:
            self.close(error)

    def _acknowledge(self, received: int) -> None:
        self._acknowledged_bytes = max(self._acknowledged_bytes, min(received, self._sent_bytes))
        if self._out.waiting_bytes and not self._leaving:
            self._leave()
        if not self.congested:
            self._writable.set()

    # The end

    def _farewell(self, bye: Bye) -> None:
        after = self._out.left + 1 if bye.taken == UNKNOWN else bye.taken + 1
        what = f"the other end closed the session: {bye.message}"
        self.finish(refusal_of(bye.code, what, Outcome.UNKNOWN), lost_from=after)

    def nobody(self, first: int) -> None:
        """A server knew nobody who would have taken the message of this number, nor then any later one."""
        if self.reason is None:
            self.missing = True
            self.finish(Unavailable("nobody is at the other end"), lost_from=first)

    def close(self, reason: CoterieError) -> None:
        """Tell the other end why, and end the session. What has not left is not sent any more."""
        if self.reason is None:
            level = logging.WARNING if isinstance(reason, ProtocolError) else logging.DEBUG
            _log.log(level, "the session with %s is closed: %s", self.to, reason)
            self.link.post(
                self.to, encode((0, 0, [Bye(reason.code, printable(str(reason)), self.incoming.taken)])), ""
            )
            self.finish(reason)

    def finish(self, reason: CoterieError, *, lost_from: int | None = None) -> None:
        """End the session without a word."""
        if self.reason is not None:
            return
        self.reason = reason
        unsent = self._out.left + 1
        self.lost_from = unsent if lost_from is None else min(lost_from, unsent)
        self._out.clear()
        self.incoming.clear()
        self._look_timer.cancel()
        self._writable.set()
        self.link.remove(self)
        self.lost(reason)

    def _look(self) -> None:
        """Give a sign of life, and look for one."""
        now, limits = self.loop.time(), self.link.limits
        if now - self._looks_at > limits.keepalive_s:
            # This process slept: what came meanwhile is not read yet.
            self._heard = self.incoming.heard_s = now
        if now - self._heard > limits.silence_s:
            what = f"the other end was silent for {limits.silence_s:g} s"
            self.finish(Unavailable(what, outcome=Outcome.UNKNOWN))
            return
        if self.incoming.partial and now - self.incoming.heard_s > limits.silence_s:
            what = f"the rest of a message did not come for {limits.silence_s:g} s"
            self.close(Unavailable(what, outcome=Outcome.UNKNOWN))
            return
        if self._quiet:
            self._post([])
        self._quiet = True
        self._looks_at = now + limits.keepalive_s
        self._look_timer = self.loop.call_at(self._looks_at, self._look)
