"""The answering end: connections that were accepted, and the listener that they belong to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import aclosing, suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from ...errors import (
    DeadlineExceeded,
    Outcome,
    Overloaded,
    ProtocolError,
    Unavailable,
)
from ...ports.wire import Handlers
from ...ports.wire import Request as PortRequest
from ..common.calls import CANCELLED, brief, failed, failure_to_send, too_large
from ..common.steps import Steps
from ..common.timers import Deadlines
from ._handshake import ListenerHandshake
from .config import Address, WireConfig
from .connection import Connection
from .messages import (
    REPLY_HEAD_BYTES,
    Cancel,
    Credit,
    Datagram,
    End,
    Goodbye,
    Item,
    Message,
    Open,
    Refused,
    Request,
    pack_reply,
)

__all__ = ["TcpListener"]

_Raw = msgspec.Raw
_Task = asyncio.Task
_WARNINGS_A_SECOND = 10


class _NotAdmitted(Exception):
    """Code and sentence of the refusal of a call, of which no handler hears."""


class _Served:
    """A call that waits for something: its task, its deadline, and the credit of a stream."""

    __slots__ = ("credit", "deadline", "refill", "task", "unwanted")

    def __init__(self, credit: int = 0) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.deadline = inf
        self.unwanted = False
        """Whether the caller has left, or its time is over, which its own clock tells it."""
        self.credit = credit
        self.refill: asyncio.Future[None] | None = None

    def cancel(self) -> None:
        self.unwanted = True
        if self.task is not None:
            self.task.cancel()


class AcceptedConnection(Connection):
    """A connection from a caller: runs handlers for what it asks."""

    portion = 32
    # So that the caller can go on with the first answers while it gets the next ones.

    def __init__(self, listener: TcpListener, nonce: bytes) -> None:
        super().__init__(listener.loop, listener.config)
        self._listener = listener
        self._handlers = listener.handlers
        self._handler = listener.handlers.request
        self._start = listener.steps.start
        self._deadlines = Deadlines(self.loop, self._sweep)
        self._handshake = ListenerHandshake(listener.config.cluster_key, nonce)
        self._max_in_flight = listener.config.max_in_flight
        self._max_body_bytes = listener.config.max_body_bytes
        self.served: dict[int, _Served] = {}
        self._welcomed = False
        self._last_ping = 0
        """The number of the ping that went with the goodbye."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not before: a connection whose TLS handshake fails is neither made nor lost.
        super().connection_made(transport)
        if self._listener.closed:
            self._listener.connections[self] = None
            self.close(Unavailable("the listener was closed", outcome=Outcome.NOT_APPLIED))
        else:
            refusal = self._listener.admit(self)
            if refusal is not None:
                self.abort(refusal)

    def established(self) -> None:
        super().established()
        self._listener.strangers[self.host].discard(self)

    def worth_a_warning(self) -> bool:
        # Who comes when all have been served is told so, which is nothing to worry about.
        return self.greeted or (not self._listener.drained and self._listener.may_warn())

    # Whoever does not read its answers may not ask for more. The caller's end does not do the same:
    # two ends that both wait for the other to read would wait for ever.

    def pause_writing(self) -> None:
        super().pause_writing()
        self.hold(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.hold(False)

    def received(self, message: Message) -> None:
        if not self.greeted:
            self._greet(message)
        elif type(message) is Request:
            self._take(message)
        elif type(message) is Cancel:
            self._cancel(message.id)
        elif type(message) is Open:
            self._open(message)
        elif type(message) is Credit:
            self._refill(message)
        elif type(message) is Datagram:
            self._datagram(message)
        else:
            self.ponder(message)

    def _greet(self, message: Message) -> None:
        if self._listener.drained and not self._welcomed:
            self.abort(Unavailable("the node is draining", outcome=Outcome.NOT_APPLIED))
            return
        answer = self._handshake.receive(message)
        if answer is not None:
            self.send(answer)
            self._welcomed = True
        if self._handshake.complete:
            self.established()
            if self._listener.draining:
                self.farewell()

    def farewell(self) -> None:
        """Tell the caller that this end drains.

        Messages keep their order: once the ping is answered, all that the caller sent before it read the
        goodbye has come, and it sends no more. Had the connection been closed before, the caller of a
        request on its way could not know whether it was done.
        """
        self.send(Goodbye())
        self.ping()
        self._last_ping = self.pings

    @property
    def settled(self) -> bool:
        """Whether the caller knows that this end drains, so that no request of its can be on the way."""
        knows = self.pongs >= self._last_ping if self.greeted else not self._welcomed
        return knows or not self.open

    def ponder(self, message: Message) -> None:
        super().ponder(message)
        if self._listener.draining:
            self._listener.check_idle()

    def _datagram(self, message: Datagram) -> None:
        if self._handlers.datagram is not None:
            try:
                self._handlers.datagram(message.body, self.peer)
            except Exception as error:  # noqa: BLE001 - it may not, but the connection is not to blame
                self.loop.call_exception_handler({"message": "a datagram handler raised", "exception": error})

    def lost(self, reason: Exception) -> None:
        self._listener.forget(self)
        self._deadlines.close()
        for served in list(self.served.values()):
            served.cancel()
        self._listener.check_idle()

    def _admit(self, message: Request | Open) -> float | None:
        """Return the deadline of a new call on this machine's clock; raise `_NotAdmitted` to refuse it."""
        served = self.served
        if len(served) >= self._max_in_flight:
            why = f"this connection has {len(served)} calls under way, the most it may"
            raise _NotAdmitted(Overloaded.code, why)
        if message.id in served:
            raise ProtocolError(f"the call {message.id} is under way already")
        if self._listener.draining:
            raise _NotAdmitted(Unavailable.code, "the node is draining")
        if not message.timeout_ms:
            return None
        deadline = self.arrived + message.timeout_ms / 1000
        time = self._time
        if deadline <= time():  # It waited behind others that came with it.
            raise _NotAdmitted(DeadlineExceeded.code, "its time was over before it started")
        return deadline

    def _take(self, message: Request) -> None:
        # This runs for each request. What is an attribute and no method is called by way of a local
        # variable, for which CPython 3.11 has a quick path.
        id_ = message.id
        try:
            deadline = self._admit(message)
        except _NotAdmitted as refusal:
            self.send(Refused(id_, *refusal.args))
            return
        start, handler = self._start, self._handler
        try:
            answer = start(
                handler(PortRequest(message.target, message.body, deadline, message.metadata, self.peer))
            )
            if not isinstance(answer, _Task):
                self._reply(id_, answer)
                return
        except Exception as error:  # noqa: BLE001 - whatever a handler raises belongs to its caller
            self._fail(id_, error)
            return
        except asyncio.CancelledError:
            self._fail(id_, CANCELLED)
            return
        served = self.served[id_] = _Served()
        self._wait(served, answer, deadline)
        answer.add_done_callback(partial(self._answered, id_, served))

    def _wait(self, served: _Served, task: asyncio.Task[Any], deadline: float | None) -> None:
        served.task = task
        if deadline is not None:
            served.deadline = deadline
            if deadline < self._deadlines.next:
                self._deadlines.watch(deadline)

    def _answered(self, id_: int, served: _Served, task: asyncio.Task[bytes]) -> None:
        self._ended(id_, served)
        error = CANCELLED if task.cancelled() else task.exception()
        if served.unwanted:
            return  # Whatever it made of being cancelled: nobody waits for that any more.
        if error is not None:
            self._fail(id_, error)
            return
        try:
            self._reply(id_, task.result())
        except Exception as refused:  # noqa: BLE001 - too large, or no bytes at all
            self._fail(id_, refused)

    def _reply(self, id_: int, body: bytes) -> None:
        size = len(body)
        if size > self._max_body_bytes:
            raise too_large(size, self._max_body_bytes, outcome=Outcome.UNKNOWN)
        if not self.usable and self._overfull:
            why = f"the reply of {size} bytes was dropped: {self.unread_bytes} wait for the caller to read"
            raise Overloaded(why, outcome=Outcome.UNKNOWN)
        self.push(pack_reply(size + REPLY_HEAD_BYTES, 0x93, 5, 0xCF, id_), body)

    def _sweep(self, now: float) -> float:
        """Cancel what is over at `now`; return the earliest deadline of the rest."""
        under_way = tuple(self.served.values())
        for served in under_way:
            if served.deadline <= now:
                served.deadline = inf  # Once: it may take its time to clean up.
                served.cancel()
        return min((served.deadline for served in under_way), default=inf)

    def _fail(self, id_: int, error: BaseException) -> None:
        failure = failure_to_send(error)
        if not self._overfull:
            with suppress(Exception):  # Too large, or not text: the caller must still get an answer.
                self.send(failed(id_, failure))
                return
        self.send(brief(id_, failure))

    @property
    def _overfull(self) -> bool:
        """Whether so much waits for the caller to read that no more may be added but short notices.

        What is asked for while it does not read is not taken, but what it asked for before can be much.
        """
        return self.unread_bytes >= self.config.max_unread_bytes

    def _ended(self, id_: int, served: _Served) -> None:
        if self.served.get(id_) is served:
            del self.served[id_]
        if self._listener.draining:
            self._listener.check_idle()

    def _cancel(self, id_: int) -> None:
        served = self.served.get(id_)
        if served is not None:
            served.cancel()

    # Streams

    def _open(self, message: Open) -> None:
        try:
            deadline = self._admit(message)
        except _NotAdmitted as refusal:
            self.send(Refused(message.id, *refusal.args))
            return
        served = self.served[message.id] = _Served(min(message.credit, self.config.credit_items))
        request = PortRequest(message.target, message.body, deadline, message.metadata, self.peer)
        task = self._start(self._pour(message.id, request, served))
        if task is not None:
            self._wait(served, task, deadline)

    async def _pour(self, id_: int, request: PortRequest, served: _Served) -> None:
        try:
            async with aclosing(self._handlers.stream(request)) as items:
                async for body in items:
                    while served.credit <= 0 or self.congested:
                        if self.congested:  # Asked again after it: other streams wait for the same.
                            await self.writable()
                        else:  # A peer may have sent a number below zero.
                            served.refill = self.loop.create_future()
                            await served.refill
                    if len(body) > self._max_body_bytes:
                        raise too_large(len(body), self._max_body_bytes, outcome=Outcome.UNKNOWN)
                    served.credit -= 1
                    self.send(Item(id_, _Raw(body)))
            self.send(End(id_))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises belongs to its caller
            self._fail(id_, error)
        except asyncio.CancelledError:
            if not served.unwanted:
                self._fail(id_, CANCELLED)
        finally:
            self._ended(id_, served)

    def _refill(self, message: Credit) -> None:
        served = self.served.get(message.id)
        if served is not None:
            served.credit = min(served.credit + message.items, self.config.credit_items)
            if served.refill is not None and not served.refill.done():
                served.refill.set_result(None)


class TcpListener:
    """Answers at one address."""

    def __init__(self, config: WireConfig, handlers: Handlers, steps: Steps) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.config = config
        self.handlers = handlers
        self.steps = steps
        # In the order in which they came: it is that in which they are told of the end.
        self.connections: dict[AcceptedConnection, None] = {}
        self.strangers: defaultdict[str, set[AcceptedConnection]] = defaultdict(set)
        """Those that are in their handshake, by host."""
        self.draining: bool = False
        self.drained: bool = False
        """Whether a drain has ended: nobody is welcome any more."""
        self.closed: bool = False
        self._address: Address | None = None
        self._server: asyncio.Server | None = None
        self._idle: asyncio.Future[None] | None = None
        self._warnings = 0
        self._warnings_since = -inf

    def serve(self, server: asyncio.Server, address: Address) -> None:
        self._server = server
        self._address = address

    @property
    def address(self) -> str:
        return str(self._address)

    @property
    def pending(self) -> int:
        return sum(len(connection.served) for connection in self.connections)

    def admit(self, connection: AcceptedConnection) -> Overloaded | None:
        """Take a new connection; return why it must be refused, if it must."""
        known, strangers = len(self.connections), self.strangers[connection.host]
        self.connections[connection] = None
        if known >= self.config.max_connections:
            return Overloaded(f"the listener has {known} connections, the most it may")
        if len(strangers) >= self.config.max_strangers:
            return Overloaded(
                f"{len(strangers)} connections of your host are in their handshake, the most that may"
            )
        strangers.add(connection)
        return None

    def forget(self, connection: AcceptedConnection) -> None:
        """Let go of a connection that is lost."""
        self.connections.pop(connection, None)
        strangers = self.strangers[connection.host]
        strangers.discard(connection)
        if not strangers:
            del self.strangers[connection.host]

    def may_warn(self) -> bool:
        """Whether one more warning about a stranger may be logged now: few a second, not a flood."""
        now = self.loop.time()
        if now >= self._warnings_since + 1:
            self._warnings, self._warnings_since = 0, now
        self._warnings += 1
        return self._warnings <= _WARNINGS_A_SECOND

    def check_idle(self) -> None:
        """Tell a drain that waits whether everything has ended."""
        if self._idle is None or self._idle.done():
            return
        if not any(connection.served or not connection.settled for connection in self.connections):
            self._idle.set_result(None)

    async def drain(self, timeout_s: float) -> int:
        if not self.draining:
            self.draining = True
            for connection in self.connections:
                if connection.greeted:
                    connection.farewell()
        self._idle = self.loop.create_future()
        self.check_idle()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle
        except TimeoutError:
            pass
        finally:
            self._idle = None
            self.drained = True
        return self.pending

    async def close(self) -> None:
        self.closed = True
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        tasks = [s.task for c in self.connections for s in c.served.values() if s.task is not None]
        gone = [connection.closed for connection in self.connections]
        for connection in list(self.connections):
            connection.close(Unavailable("the listener was closed", outcome=Outcome.UNKNOWN))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *gone, return_exceptions=True)
        if self._address is not None and self._address.path:
            Path(self._address.path).unlink(missing_ok=True)
