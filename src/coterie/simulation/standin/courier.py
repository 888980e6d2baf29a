"""Calls from a host to the stand-in of an engine: over the links, and with the outcomes of the real thing."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import Outcome, Unavailable
from ..network.calls import SimulationLoop
from ..network.links import RTO_S
from ..network.stack import Stack
from ..scope import SCOPE

if TYPE_CHECKING:
    from .server import StandIn

__all__ = ["Channel", "Courier"]

T = TypeVar("T")

_REQUEST_BYTES = 200
_LONGEST_RETRY_S = 1.0


class Channel:
    """Carries messages one way between two hosts, in order and without loss, as a connection would.

    A message that meets a cut link is tried again until it passes or is no longer `wanted`.
    """

    def __init__(self, loop: SimulationLoop, source: Stack, target: Stack) -> None:
        self._loop = loop
        self._link = loop.fabric.link(source, target)
        self._target = target
        self._last_arrival_s = 0.0

    def send(self, deliver: Callable[[], object], wanted: Callable[[], bool]) -> None:
        """Call `deliver` in the world's scope when the message arrives."""
        arrival = max(self._link.segment(self._loop.time(), _REQUEST_BYTES), self._last_arrival_s)
        self._last_arrival_s = arrival
        self._loop.call_in_world(arrival, self._arrive, deliver, wanted, RTO_S)

    def _arrive(self, deliver: Callable[[], object], wanted: Callable[[], bool], retry_s: float) -> None:
        if not wanted():
            return
        if self._link.cut or not self._target.up:
            later = self._loop.time() + retry_s
            self._last_arrival_s = max(self._last_arrival_s, later)
            again = min(2 * retry_s, _LONGEST_RETRY_S)
            self._loop.call_in_world(later, self._arrive, deliver, wanted, again)
        else:
            deliver()


class Courier:
    """One client's calls. Each ends with a result, the engine's error, or `Unavailable` after `timeout_s`."""

    def __init__(self, server: StandIn, source: Stack, timeout_s: float) -> None:
        self.server = server
        self.timeout_s = timeout_s
        self.closed: bool = False
        self._loop = server.world.loop
        self.there: Channel = Channel(self._loop, source, server.host.stack)
        self.back: Channel = Channel(self._loop, server.host.stack, source)
        self._pending: dict[asyncio.Future[Any], None] = {}

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]], *, writes: bool = False) -> T:
        """Let the engine do `work` and return what it returns.

        Raises what `work` raises, and `Unavailable`: with the outcome unknown if `writes`.
        """
        if self.closed:
            raise Unavailable("the engine's client is closed", outcome=Outcome.NOT_APPLIED)
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending[future] = None
        attempt = _Attempt(self, work, future, writes)
        attempt.send()
        timer = self._loop.call_later(self.timeout_s, attempt.give_up)
        try:
            return await future
        finally:
            timer.cancel()
            self._pending.pop(future, None)

    def close(self) -> None:
        """End what is under way with `Unavailable`. Idempotent."""
        self.closed = True
        for future in self._pending:
            if not future.done():
                future.set_exception(Unavailable("the engine's client is closed", outcome=Outcome.UNKNOWN))


class _Attempt:
    """One call, with the repetitions that a client of a weak engine makes by itself."""

    __slots__ = ("_courier", "_future", "_work", "_writes", "arrived")

    def __init__(
        self,
        courier: Courier,
        work: Callable[[], Coroutine[Any, Any, Any]],
        future: asyncio.Future[Any],
        writes: bool,
    ) -> None:
        self._courier = courier
        self._work = work
        self._future = future
        self._writes = writes
        self.arrived = False

    def send(self) -> None:
        self._courier.there.send(self._arrive, self._wanted)

    def _wanted(self) -> bool:
        return not self._future.done()

    def give_up(self) -> None:
        if not self._future.done():
            outcome = Outcome.UNKNOWN if self._writes else Outcome.NOT_APPLIED
            name = self._courier.server.name
            self._future.set_exception(Unavailable(f"the engine {name!r} gave no answer", outcome=outcome))

    def _arrive(self) -> None:
        """The request is at the engine."""
        server = self._courier.server
        process = server.process
        loop = server.world.loop
        wait_s = server.leaderless_s
        if process is None or not process.alive or wait_s > 0:
            loop.call_in_world(loop.time() + max(0.1, wait_s), self._retry)
            return
        self.arrived = True
        context = contextvars.Context()
        context.run(SCOPE.set, process.scope)
        with loop.within(process.scope):
            loop.create_task(self._serve(), context=context)

    def _retry(self) -> None:
        if self._wanted():
            self._arrive()

    async def _serve(self) -> None:
        """Do the work, in the engine's own process, and send the answer back."""
        server = self._courier.server
        terms = server.terms
        result: Any = None
        failure: Exception | None = None
        try:
            result = await self._work()
        except Exception as error:  # noqa: BLE001 - it is the caller's
            failure = error
        if server.terms != terms or (self._writes and server.loses_answer()):
            if server.repeats and self._writes and failure is None:
                self._courier.back.send(
                    self.send, self._wanted
                )  # The client asks again, for its user's sake.
            return

        def answer() -> None:
            if self._future.done():
                return
            if failure is None:
                self._future.set_result(result)
            else:
                self._future.set_exception(failure)

        self._courier.back.send(answer, self._wanted)
