"""The listener's end of a session: runs the handlers, and sends what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from functools import partial
from math import inf
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
from ..common.calls import CANCELLED, brief, failed, failure_to_send, too_large
from ..common.timers import Deadlines
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
from .wire_session import Session

if TYPE_CHECKING:
    from .wire_listener import NatsListener

__all__ = ["AnsweringSession"]

_NOTICES_BYTES = 16 * 1024 * 1024
"""How much more than the limit may wait for a caller that receives nothing, before it is let go."""


class _Served:
    """A call that waits for something: its task, its deadline, and the credit of a stream."""

    __slots__ = ("credit", "deadline", "refill", "stream", "task", "unwanted")

    def __init__(self, deadline: float, credit: int | None) -> None:
        self.deadline = deadline
        self.stream = credit is not None
        self.credit = credit or 0
        self.refill: asyncio.Future[None] | None = None
        self.task: asyncio.Task[Any] | None = None
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
        self._start = listener.link.steps.start
        self._deadlines = Deadlines(self.loop, self._sweep)
        self.incoming.taken = 1  # the hello
        self.send(Welcome(VERSION))

    def receive(self, data: bytes, sender: str) -> None:
        # Not in the task that reads, which each handler's first step would have to leave for its own; and
        # handlers see the context of whoever listened.
        self.loop.call_soon(super().receive, data, sender, context=self.listener.context)

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
                if served.refill is not None and not served.refill.done():
                    served.refill.set_result(None)
        elif isinstance(message, Datagram):
            self.listener.datagram(message.body, self.peer)
        elif isinstance(message, Noted):
            self.settled = True
            self.listener.check_idle()
        else:
            raise ProtocolError(f"a {type(message).__name__} was not expected here")

    def lost(self, reason: CoterieError) -> None:
        self.settled = True
        self._deadlines.close()
        for served in tuple(self.served.values()):
            served.cancel()
        self.listener.forget(self)

    def _take(self, message: Call) -> None:
        id_, now = message.id, self.loop.time()
        if id_ in self.served:
            raise ProtocolError(f"the call {id_} is under way already")
        # What comes in parts has its time from the first of them.
        deadline = self.incoming.began_s + message.timeout_ms / 1000 if message.timeout_ms else inf
        if (refusal := self._refusal(deadline, now)) is not None:
            self.send(Refused(id_, refusal.code, refusal.message))
            return
        until = deadline if message.timeout_ms else None
        request = Request(message.target, message.body, until, message.metadata, self.peer)
        handlers = self.listener.handlers
        work: Coroutine[Any, Any, bytes | None]
        if message.credit is None:
            served = _Served(deadline, None)
            work = handlers.request(request)
        else:
            served = _Served(deadline, min(message.credit, self.link.limits.credit_items))
            work = self._pour(id_, handlers.stream(request), served)
        try:
            answer = self._start(work)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises belongs to its caller
            self._fail(id_, error)
        except asyncio.CancelledError:
            self._fail(id_, CANCELLED)
        else:
            if isinstance(answer, asyncio.Task):
                self._wait(id_, served, answer)
            elif not served.stream:
                self._reply(id_, answer)

    def _refusal(self, deadline: float, now: float) -> CoterieError | None:
        """Return why a new call reaches no handler, if it does not."""
        if self.listener.draining:
            return Unavailable("the node is draining")
        if len(self.served) >= self.link.limits.max_in_flight:
            return Overloaded(f"this session has {len(self.served)} calls under way, the most it may")
        if deadline <= now:
            return DeadlineExceeded("its time was over before it started")
        return None

    def _wait(self, id_: int, served: _Served, task: asyncio.Task[bytes | None]) -> None:
        """Expect the end of what waits for something."""
        self.served[id_] = served
        served.task = task
        if served.deadline < self._deadlines.next:
            self._deadlines.watch(served.deadline)
        task.add_done_callback(partial(self._ended, id_, served))
        if not self.open:  # The handler's first step has ended it.
            served.cancel()

    def _sweep(self, now: float) -> float:
        """Cancel what is over at `now`; return the earliest deadline of the rest."""
        under_way = tuple(self.served.values())
        for served in under_way:
            if served.deadline <= now:
                served.deadline = inf  # Once: it may take its time to clean up.
                served.cancel()
        return min((served.deadline for served in under_way), default=inf)

    def _reply(self, id_: int, body: Any) -> None:
        """Send what a handler returned, if it may be sent."""
        try:
            self._check(body)
            if self.waiting_bytes >= self.link.limits.max_unread_bytes:
                why = f"the reply of {len(body)} bytes was dropped: {self.waiting_bytes} wait for the caller"
                raise Overloaded(why, outcome=Outcome.UNKNOWN)
            self.send(Reply(id_, msgspec.Raw(body)))
        except Exception as error:  # noqa: BLE001 - or it is no bytes at all
            self._fail(id_, error)

    async def _pour(self, id_: int, stream: AsyncGenerator[bytes, None], served: _Served) -> None:
        async with aclosing(stream) as items:
            async for body in items:
                while served.credit <= 0 or self.congested:
                    if self.congested:  # Asked again after it: other streams wait for the same.
                        await self.writable()
                    else:
                        served.refill = self.loop.create_future()
                        await served.refill
                self._check(body)
                served.credit -= 1
                self.send(Item(id_, msgspec.Raw(body)))
        self.send(End(id_))

    def _check(self, body: bytes) -> None:
        if len(body) > self.link.limits.max_body_bytes:
            raise too_large(len(body), self.link.limits.max_body_bytes, outcome=Outcome.UNKNOWN)

    def _ended(self, id_: int, served: _Served, task: asyncio.Task[bytes | None]) -> None:
        del self.served[id_]
        error = CANCELLED if task.cancelled() else task.exception()
        if served.unwanted:
            pass  # Whatever it made of being cancelled: nobody waits for that any more.
        elif error is not None:
            self._fail(id_, error)
        elif not served.stream:
            self._reply(id_, task.result())
        if self.listener.draining:
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
