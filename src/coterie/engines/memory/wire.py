"""The reference implementation of the `Wire` port: calls between the nodes of one process."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from ...context import Metadata
from ...errors import DeadlineExceeded, Outcome, TooLarge, Unavailable
from ...ports.guarantees import Scope
from ...ports.wire import Failure, Handlers, Request, WireGuarantees
from .calls import MemoryCall

if TYPE_CHECKING:
    from .network import MemoryNetwork

__all__ = ["MemoryChannel", "MemoryListener", "MemoryWire"]

_log = logging.getLogger("coterie.wire.memory")

_GUARANTEES = WireGuarantees(
    engine="memory", scope=Scope.PROCESS, notes=("Nodes of one process only; nothing leaves it.",)
)
_UNWIND_S = 1.0
"""How long `close` waits for cancelled handlers to clean up."""


class MemoryListener:
    """`Listener` at one address of a memory network."""

    def __init__(self, wire: MemoryWire, address: str, handlers: Handlers) -> None:
        self.node: str = wire.node
        self._wire = wire
        self._handlers = handlers
        # Handlers see the context of whoever listened, never the caller's: over a real wire they could not.
        self._context = contextvars.copy_context()
        self._calls: dict[MemoryCall, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._refuses = ""
        self._address = wire.bind(address, self)

    @property
    def address(self) -> str:
        return self._address

    @property
    def pending(self) -> int:
        return len(self._calls)

    def answer(self, call: MemoryCall, request: Request, *, stream: bool) -> None:
        """Begin to answer `request`; raise `Unavailable` if nothing new is taken."""
        if self._refuses:
            raise Unavailable(f"{self._address} {self._refuses}", outcome=Outcome.NOT_APPLIED)
        self._calls[call] = None
        self._idle.clear()
        run = self._run_stream(call, request) if stream else self._run_request(call, request)
        call.task = asyncio.get_running_loop().create_task(run, context=self._context.copy())
        call.task.add_done_callback(lambda task: self._on_done(call, task))

    def deliver(self, body: bytes, peer: str) -> None:
        """Hand a datagram to the handler, if there is one."""
        if self._handlers.datagram is not None and not self._refuses:
            self._context.copy().run(self._handlers.datagram, body, peer)

    async def drain(self, timeout_s: float) -> int:
        self._refuses = self._refuses or "is shutting down"
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        return len(self._calls)

    def abort(self, why: str) -> None:
        """Lose all calls at once and take no more."""
        self._refuses = "is closed"
        self._wire.release(self)
        for call in tuple(self._calls):
            call.lose(why)

    async def close(self) -> None:
        self.abort(f"{self._address} was closed")
        me = asyncio.current_task()
        unwinding = [call.task for call in self._calls if call.task is not None and call.task is not me]
        if unwinding:
            await asyncio.wait(unwinding, timeout=_UNWIND_S)

    async def _run_request(self, call: MemoryCall, request: Request) -> None:
        if self._start(call, request):
            await call.send(_bounded_reply(await self._handlers.request(request)))

    async def _run_stream(self, call: MemoryCall, request: Request) -> None:
        if self._start(call, request):
            async with aclosing(self._handlers.stream(request)) as items:
                async for item in items:
                    await call.send(_bounded_reply(item))

    def _start(self, call: MemoryCall, request: Request) -> bool:
        if request.deadline is not None and asyncio.get_running_loop().time() >= request.deadline:
            call.expire()
            return False
        call.started = True
        return True

    def _on_done(self, call: MemoryCall, task: asyncio.Task[None]) -> None:
        del self._calls[call]
        if not self._calls:
            self._idle.set()
        if task.cancelled():
            call.lose(f"the handler at {self._address} was cancelled")
            return
        error = task.exception()
        if error is None:
            call.end()
        elif isinstance(error, Failure):
            call.end(_copied(error))
        else:
            _log.error("a handler at %s failed", self._address, exc_info=error)
            call.end(Failure("remote_error", f"{type(error).__name__}: {error}"))


class MemoryChannel:
    """`Channel` towards one address of a memory network."""

    def __init__(self, wire: MemoryWire, address: str) -> None:
        self._wire = wire
        self._address = address
        self._calls: dict[MemoryCall, None] = {}
        self._closed = False

    @property
    def address(self) -> str:
        return self._address

    @property
    def pending(self) -> int:
        return len(self._calls)

    async def request(
        self, target: str, body: bytes, *, timeout_s: float, metadata: Metadata | None = None
    ) -> bytes:
        async with aclosing(self._call(target, body, timeout_s, metadata, stream=False)) as replies:
            return await anext(replies)

    def stream(
        self, target: str, body: bytes, *, timeout_s: float | None, metadata: Metadata | None = None
    ) -> AsyncGenerator[bytes, None]:
        return self._call(target, body, timeout_s, metadata, stream=True)

    def datagram(self, body: bytes) -> None:
        if not self._closed and len(body) <= _GUARANTEES.max_body_bytes:
            asyncio.get_running_loop().call_soon(self._deliver, bytes(body))

    async def close(self) -> None:
        self.abort("the channel was closed")

    def abort(self, why: str) -> None:
        """Lose all calls at once and make no more."""
        self._closed = True
        self._wire.forget(self)
        self.lose_calls(None, why)

    def lose_calls(self, node: str | None, why: str) -> None:
        """Lose the calls to `node`, or all."""
        for call in tuple(self._calls):
            if node is None or call.listener.node == node:
                call.lose(why)

    async def _call(
        self, target: str, body: bytes, timeout_s: float | None, metadata: Metadata | None, *, stream: bool
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        call = self._begin(
            Request(target, bytes(body), deadline, metadata, self._wire.address), stream=stream
        )
        timer = None if deadline is None else loop.call_at(deadline, call.expire)
        try:
            while (item := await call.receive()) is not None:
                yield item
        finally:
            if timer is not None:
                timer.cancel()
            del self._calls[call]
            call.leave()

    def _begin(self, request: Request, *, stream: bool) -> MemoryCall:
        if self._closed:
            raise Unavailable(f"the channel to {self._address} is closed", outcome=Outcome.NOT_APPLIED)
        if len(request.body) > _GUARANTEES.max_body_bytes:
            raise TooLarge(
                f"the body has {len(request.body)} bytes; the limit is {_GUARANTEES.max_body_bytes}"
            )
        if request.deadline is not None and asyncio.get_running_loop().time() >= request.deadline:
            raise DeadlineExceeded("the call's time was over before it was sent", outcome=Outcome.NOT_APPLIED)
        listener = self._wire.reach(self._address)
        call = MemoryCall(listener)
        listener.answer(call, request, stream=stream)
        self._calls[call] = None
        return call

    def _deliver(self, body: bytes) -> None:
        try:
            listener = self._wire.reach(self._address)
        except Unavailable:
            return  # as the port says: no promise that it arrives
        listener.deliver(body, self._wire.address)


class MemoryWire:
    """`Wire` of one node. Made by `MemoryNetwork.wire`."""

    def __init__(self, network: MemoryNetwork, node: str) -> None:
        self.node = node
        self._network = network
        self._listeners: dict[str, MemoryListener] = {}  # by address
        self._channels: dict[MemoryChannel, None] = {}
        self._closed = False

    @property
    def guarantees(self) -> WireGuarantees:
        return _GUARANTEES

    @property
    def address(self) -> str:
        """Where this node listens, or its name if it does not: what its peers see."""
        return next(iter(self._listeners), f"memory:{self.node}")

    async def listen(self, address: str, handlers: Handlers) -> MemoryListener:
        if self._closed:
            raise Unavailable("the wire is closed", outcome=Outcome.NOT_APPLIED)
        return MemoryListener(self, address, handlers)

    def connect(self, address: str) -> MemoryChannel:
        channel = MemoryChannel(self, address)
        if self._closed:
            channel.abort("the wire is closed")
        else:
            self._channels[channel] = None
        return channel

    async def close(self) -> None:
        listeners = tuple(self._listeners.values())
        self.abort("the wire was closed")
        for listener in listeners:
            await listener.close()

    def abort(self, why: str) -> None:
        """Lose all calls of this node at once, both ways."""
        self._closed = True
        self._network.forget(self.node)
        for channel in tuple(self._channels):
            channel.abort(why)
        for listener in tuple(self._listeners.values()):
            listener.abort(why)

    def reach(self, address: str) -> MemoryListener:
        """Return the listener at `address`; raise `Unavailable` if it cannot be reached."""
        return self._network.reach(self.node, address)

    def lose_calls(self, node: str, why: str) -> None:
        """Lose the calls under way to `node`."""
        for channel in self._channels:
            channel.lose_calls(node, why)

    def bind(self, address: str, listener: MemoryListener) -> str:
        """Let `listener` answer at `address`, and return it with what was left open filled in."""
        address = self._network.bind(address, listener)
        self._listeners[address] = listener
        return address

    def release(self, listener: MemoryListener) -> None:
        """Let go of a closed listener and of its address."""
        if self._listeners.pop(listener.address, None) is not None:
            self._network.release(listener.address)

    def forget(self, channel: MemoryChannel) -> None:
        """Let go of a closed channel."""
        self._channels.pop(channel, None)


def _bounded_reply(body: bytes) -> bytes:
    if len(body) > _GUARANTEES.max_body_bytes:
        raise Failure(
            "too_large", f"the reply has {len(body)} bytes; the limit is {_GUARANTEES.max_body_bytes}"
        )
    return bytes(body)


def _copied(failure: Failure) -> Failure:
    # A copy, as over a real wire: the caller's traceback must not lead into the handler's frames.
    return Failure(
        failure.code,
        failure.message,
        hint=failure.hint,
        outcome=failure.outcome,
        detail=failure.detail,
        traceback=failure.traceback,
    )
