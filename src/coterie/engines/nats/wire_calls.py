"""The caller's end of a session: pairs answers with what was asked."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import Any

from ...errors import CoterieError, DeadlineExceeded, Outcome, ProtocolError, Unavailable
from ..common.calls import failure_of, refusal_of
from ..common.timers import Deadlines
from ._wire_messages import (
    VERSION,
    Batch,
    End,
    Failed,
    Goodbye,
    Hello,
    Item,
    Message,
    Noted,
    Refused,
    Reply,
    Welcome,
)
from .wire_link import WireLink
from .wire_session import Session

__all__ = ["CallingSession", "Complete", "Pending"]


class Pending:
    """A call under way: what has come and was not taken yet, and how it ended. A request has one item."""

    __slots__ = ("_waiter", "deadline", "end", "id", "items", "number", "taken", "target")

    def __init__(self, id_: int, target: str, deadline: float) -> None:
        self.id: int = id_
        self.target: str = target
        self.deadline: float = deadline
        self.number: int = 0
        """The number of the message that asked for it, or of its last part."""
        self.items: deque[Any] = deque()
        self.taken: int = 0
        self.end: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> Any:
        """Return the next item; raise how the call ended when there are no more."""
        while not self.items:
            if self.end is not None:
                raise self.end
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self.taken += 1
        return self.items.popleft()

    def put(self, item: Any) -> None:
        self.items.append(item)
        self._wake()

    def finish(self, end: BaseException) -> None:
        """End the call behind its items, if it has not ended."""
        if self.end is None:
            self.end = end
            self._wake()

    def expire(self) -> None:
        """End the call at once: its time is over."""
        self.deadline = inf  # Once: its caller may take its time to notice.
        self.items.clear()
        self.end = DeadlineExceeded(f"{self.target} gave no answer in time")
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Complete(Exception):
    """A stream has no more items."""


class CallingSession(Session):
    """The caller's end of a session: pairs answers with what was asked."""

    def __init__(self, link: WireLink, to: str) -> None:
        super().__init__(link, to)
        self.ready: asyncio.Future[None] = self.loop.create_future()
        """Done once the listener has welcomed us, or has not."""
        self.pending: dict[int, Pending] = {}
        self.draining: bool = False
        """Whether the listener takes no new calls."""
        self.deadlines: Deadlines = Deadlines(self.loop, self._sweep)
        self._last_id = 0
        self.send(Hello(VERSION, link.name))

    @property
    def usable(self) -> bool:
        """Whether calls may be sent."""
        return self.reason is None and not self.draining and not self.congested

    def next_id(self) -> int:
        """Return an id for a new call."""
        self._last_id += 1
        return self._last_id

    def meets(self, sender: str, batch: Batch) -> bool:
        if not self.incoming.taken and batch.first == 1 and not self.ready.done():
            self.to = sender  # From the subject that everybody knows to that of the session.
        return sender == self.to

    def received(self, message: Message) -> None:
        if isinstance(message, Reply | Item):
            self._put(message.id, message.body)
        elif isinstance(message, End):
            self._end(message.id, Complete())
        elif isinstance(message, Failed):
            self._end(message.id, failure_of(message))
        elif isinstance(message, Refused):
            why = f"the peer refused the call: {message.message}"
            self._end(message.id, refusal_of(message.code, why))
        elif isinstance(message, Goodbye):
            self.draining = True
            self.send(Noted())
        elif isinstance(message, Welcome) and not self.ready.done():
            if message.version != VERSION:
                raise ProtocolError(f"the peer speaks version {message.version}, and this is {VERSION}")
            self.ready.set_result(None)
        else:
            raise ProtocolError(f"a {type(message).__name__} was not expected here")

    def _put(self, id_: int, body: Any) -> None:
        call = self.pending.get(id_)
        if call is not None and call.end is None:
            if len(call.items) >= self.link.limits.credit_items:
                raise ProtocolError("the peer sent more items than it had credit for")
            call.put(body)

    def _end(self, id_: int, error: Exception) -> None:
        call = self.pending.get(id_)
        if call is not None:
            call.finish(error)

    def _sweep(self, now: float) -> float:
        """End what is over at `now`; return the earliest deadline of the rest."""
        for call in self.pending.values():
            if call.deadline <= now:
                call.expire()
        return min((call.deadline for call in self.pending.values()), default=inf)

    def lost(self, reason: CoterieError) -> None:
        self.deadlines.close()
        if not self.ready.done():
            self.ready.set_exception(reason)
            self.ready.exception()  # It may be that nobody waits for it any more.
        for call in self.pending.values():
            never = call.number >= self.lost_from
            what = f"the session was lost while the call was under way: {reason.message}"
            call.finish(Unavailable(what, outcome=Outcome.NOT_APPLIED if never else Outcome.UNKNOWN))
