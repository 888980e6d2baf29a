"""The listener's end of a session: runs the handlers, and sends what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import (
    CoterieError,
    DeadlineExceeded,
    Outcome,
    Overloaded,
    ProtocolError,
    Unavailable,
)
from ...ports.wire import Request
from ..common.calls import CANCELLED, brief, failed, failure_to_send
from ._wire_messages import (
    VERSION,
    Call,
    Cancel,
    Credit,
    Datagram,
    End,
    Goodbye,
    Item,
    Message,
    Noted,
    Refused,
    Reply,
    Welcome,
)
from .wire_session import Session, too_large

if TYPE_CHECKING:
    from .wire_listener import NatsListener

__all__ = ["AnsweringSession"]

_NOTICES_BYTES = 16 * 1024 * 1024
"""How much more than the limit may wait for a caller that receives nothing, before it is let go."""


class _Served:
    """A call that is being answered."""

    __slots__ = ("credit", "refill", "task", "timer", "unwanted")

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.refill = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.unwanted = False
        """Whether nobody waits for the answer any more."""

    def cancel(self) -> None:
        if not self.unwanted and self.task is not None:
            self.unwanted = True
            self.task.cancel()


class AnsweringSession(Session):
    """The listener's end of a session."""

    def __init__(self, listener: NatsListener, to: str, peer: str) -> None:
        super().__init__(listener.link, to)
        self.listener = listener
        self.peer = peer
        self.served: dict[int, _Served] = {}
        self.settled: bool = True
        """Whether the caller knows what there is to know about a drain: no call of its can be on the way."""
        self.incoming.taken = 1  # the hello
        self.send(Welcome(VERSION))

    def drain(self) -> None:
        """Tell the caller that nothing new is taken."""
        self.settled = False
        self.send(Goodbye())

    def received(self, message: Message) -> None:
        if isinstance(message, Call):
            self._take(message)
        elif isinstance(message, Cancel):
            if (served := self.served.get(message.id)) is not None:
                served.cancel()
        elif isinstance(message, Credit):
            if (served := self.served.get(message.id)) is not None:
                served.credit = min(served.credit + message.items, self.link.limits.credit_items)
                served.refill.set()
        elif isinstance(message, Datagram):
            self.listener.datagram(message.body, self.peer)
        elif isinstance(message, Noted):
            self.settled = True
            self.listener.check_idle()
        else:
            raise ProtocolError(f"a {type(message).__name__} was not expected here")

    def lost(self, reason: CoterieError) -> None:
        self.settled = True
        for served in tuple(self.served.values()):
            served.cancel()
        self.listener.forget(self)

    def _take(self, message: Call) -> None:
        if message.id in self.served:
            raise ProtocolError(f"the call {message.id} is under way already")
        if self.listener.draining:
            self.send(Refused(message.id, Unavailable.code, "the node is draining"))
            return
        if len(self.served) >= self.link.limits.max_in_flight:
            why = f"this session has {len(self.served)} calls under way, the most it may"
            self.send(Refused(message.id, Overloaded.code, why))
            return
        # What comes in parts has its time from the first of them.
        deadline = self.incoming.began_s + message.timeout_ms / 1000 if message.timeout_ms else None
        request = Request(message.target, message.body, deadline, message.metadata, self.peer)
        served = _Served(min(message.credit or 0, self.link.limits.credit_items))
        if message.credit is None:
            work = self._reply(message.id, request)
        else:
            work = self._pour(message.id, request, served)
        self._start(message.id, served, work, deadline)

    def _start(
        self, id_: int, served: _Served, work: Coroutine[Any, Any, None], deadline: float | None
    ) -> None:
        self.served[id_] = served
        # Handlers see the context of whoever listened.
        served.task = self.loop.create_task(work, context=self.listener.context.copy())
        served.task.add_done_callback(lambda task: self._ended(id_, served, task))
        if deadline is not None:
            served.timer = self.loop.call_at(deadline, served.cancel)

    async def _reply(self, id_: int, request: Request) -> None:
        if self._late(id_, request):
            return
        body = await self.listener.handlers.request(request)
        self._check(body)
        if self.waiting_bytes >= self.link.limits.max_unread_bytes:
            why = f"the reply of {len(body)} bytes was dropped: {self.waiting_bytes} wait for the caller"
            raise Overloaded(why, outcome=Outcome.UNKNOWN)
        self.send(Reply(id_, msgspec.Raw(body)))

    async def _pour(self, id_: int, request: Request, served: _Served) -> None:
        if self._late(id_, request):
            return
        async with aclosing(self.listener.handlers.stream(request)) as items:
            async for body in items:
                while served.credit <= 0 or self.congested:
                    if self.congested:  # Asked again after it: other streams wait for the same.
                        await self.writable()
                    else:
                        served.refill.clear()
                        await served.refill.wait()
                self._check(body)
                served.credit -= 1
                self.send(Item(id_, msgspec.Raw(body)))
        self.send(End(id_))

    def _late(self, id_: int, request: Request) -> bool:
        late = request.deadline is not None and self.loop.time() >= request.deadline
        if late:
            self.send(Refused(id_, DeadlineExceeded.code, "its time was over before it started"))
        return late

    def _check(self, body: bytes) -> None:
        if len(body) > self.link.limits.max_body_bytes:
            raise too_large(len(body), self.link.limits.max_body_bytes)

    def _ended(self, id_: int, served: _Served, task: asyncio.Task[None]) -> None:
        del self.served[id_]
        if served.timer is not None:
            served.timer.cancel()
        error = CANCELLED if task.cancelled() else task.exception()
        if error is not None and not served.unwanted:
            self._fail(id_, error)
        self.listener.check_idle()

    def _fail(self, id_: int, error: BaseException) -> None:
        failure = failure_to_send(error)
        limit = self.link.limits.max_unread_bytes
        if self.waiting_bytes > limit + _NOTICES_BYTES:
            self.close(Overloaded("the caller receives nothing", outcome=Outcome.UNKNOWN))
        elif self.waiting_bytes < limit:
            with suppress(Exception):  # Too large, or not text: the caller must still get an answer.
                self.send(failed(id_, failure))
                return
        self.send(brief(id_, failure))
