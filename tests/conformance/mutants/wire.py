"""Wires that each lack one safeguard: the docstring says which, `caught_by` which check must see it.

A mutant replaces methods of the memory wire's classes: `{class: {method: replacement}}`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from coterie.engines.memory.calls import MemoryCall
from coterie.engines.memory.network import MemoryNetwork
from coterie.engines.memory.wire import MemoryChannel, MemoryListener, MemoryWire
from coterie.errors import DeadlineExceeded, Outcome, Unavailable
from coterie.ports.guarantees import Scope
from coterie.ports.wire import Failure, Request, WireGuarantees

Replacements = Mapping[type, Mapping[str, Any]]


@dataclass(frozen=True)
class Mutant:
    """One way to break a wire."""

    name: str
    caught_by: str
    replacements: Replacements


MUTANTS: list[Mutant] = []


def mutant(caught_by: str) -> Callable[[Callable[[], Replacements]], Callable[[], Replacements]]:
    def register(build: Callable[[], Replacements]) -> Callable[[], Replacements]:
        MUTANTS.append(Mutant(build.__name__, caught_by, build()))
        return build

    return register


@mutant("a_request_reaches_its_handler_at_most_once")
def delivers_twice() -> Replacements:
    """A handler is called twice for one request."""
    tasks: list[asyncio.Future[bytes]] = []
    whole = MemoryListener._run_request

    async def run(self: MemoryListener, call: MemoryCall, request: Request) -> None:
        tasks.append(asyncio.ensure_future(self._handlers.request(request)))
        await whole(self, call, request)

    return {MemoryListener: {"_run_request": run}}


@mutant("a_request_reaches_its_handler_at_most_once")
def retries_what_was_lost() -> Replacements:
    """A request whose connection is lost is sent again."""
    requests: dict[MemoryCall, Request] = {}
    tasks: list[asyncio.Future[bytes]] = []
    whole = MemoryListener.abort

    def abort(self: MemoryListener, why: str) -> None:
        tasks.extend(asyncio.ensure_future(self._handlers.request(requests[call])) for call in self._calls)
        whole(self, why)

    answer = MemoryListener.answer

    def remembering(self: MemoryListener, call: MemoryCall, request: Request, *, stream: bool) -> None:
        requests[call] = request
        answer(self, call, request, stream=stream)

    return {MemoryListener: {"abort": abort, "answer": remembering}}


@mutant("the_deadline_ends_a_request")
def says_not_applied_at_a_deadline() -> Replacements:
    """A deadline is said to be not applied, though the handler has started."""

    def expire(self: MemoryCall) -> None:
        self._abort(DeadlineExceeded("over", outcome=Outcome.NOT_APPLIED))

    return {MemoryCall: {"expire": expire}}


@mutant("closing_the_listener_loses_its_calls")
def says_not_applied_at_a_loss() -> Replacements:
    """A lost connection is said to be not applied, though the handler has started."""

    def lose(self: MemoryCall, why: str) -> None:
        self._abort(Unavailable(why, outcome=Outcome.NOT_APPLIED))

    return {MemoryCall: {"lose": lose}}


@mutant("nobody_there_is_unavailable")
def says_unknown_when_nobody_is_there() -> Replacements:
    """A call that found nobody is said to be unknown."""

    def reach(self: MemoryNetwork, node: str, address: str) -> MemoryListener:
        if address not in self._listeners:
            raise Unavailable("nobody")
        return self._listeners[address]

    return {MemoryNetwork: {"reach": reach}}


@mutant("each_request_gets_its_own_reply")
def mixes_replies() -> Replacements:
    """Replies are matched to requests by their order."""
    waiting: list[MemoryCall] = []
    answer, send = MemoryListener.answer, MemoryCall.send

    def noting(self: MemoryListener, call: MemoryCall, request: Request, *, stream: bool) -> None:
        waiting.append(call)
        answer(self, call, request, stream=stream)

    async def to_the_first(self: MemoryCall, item: bytes) -> None:
        await send(waiting.pop(0), item)

    return {MemoryListener: {"answer": noting}, MemoryCall: {"send": to_the_first}}


@mutant("the_deadline_ends_a_request")
def ignores_deadlines() -> Replacements:
    """A deadline ends nothing."""
    return {MemoryCall: {"expire": lambda self: None}}


@mutant("the_deadline_ends_a_stream")
def ignores_deadlines_of_streams() -> Replacements:
    """A stream has no deadline."""
    whole = MemoryChannel.stream

    def stream(self: MemoryChannel, target: str, body: bytes, **options: Any) -> AsyncGenerator[bytes, None]:
        return whole(self, target, body, **{**options, "timeout_s": None})

    return {MemoryChannel: {"stream": stream}}


@mutant("the_deadline_ends_a_request")
def handlers_outlive_their_callers() -> Replacements:
    """A handler runs on when nobody waits for it."""
    return {MemoryCall: {"leave": lambda self: None}}


@mutant("cancelling_the_caller_cancels_the_handler")
def cancelling_stays_here() -> Replacements:
    """Cancelling a caller is not told to the other end."""
    return {MemoryCall: {"leave": lambda self: None}}


@mutant("leaving_a_stream_cancels_its_handler")
def leaving_stays_here() -> Replacements:
    """Leaving a stream is not told to the other end."""
    return {MemoryCall: {"leave": lambda self: None}}


@mutant("a_request_without_time_never_starts")
def starts_without_time() -> Replacements:
    """Whether there is time left is not looked at before the handler starts."""
    whole = MemoryChannel._begin

    def begin(self: MemoryChannel, request: Request, *, stream: bool) -> MemoryCall:
        deadline, request.deadline = request.deadline, None
        call = whole(self, request, stream=stream)
        if deadline is not None and deadline <= asyncio.get_running_loop().time():
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, call.expire)
        return call

    return {MemoryChannel: {"_begin": begin}}


@mutant("a_slow_reader_slows_the_sender")
def gives_endless_credit() -> Replacements:
    """A sender never waits for its reader."""

    async def send(self: MemoryCall, item: bytes) -> None:
        self._items.append(item)
        self._news.set()
        await asyncio.sleep(0)

    return {MemoryCall: {"send": send}}


@mutant("items_arrive_in_order")
def loses_items() -> Replacements:
    """A full buffer drops what is new."""
    whole = MemoryCall.send

    async def send(self: MemoryCall, item: bytes) -> None:
        if len(self._items) < 16:
            await whole(self, item)

    return {MemoryCall: {"send": send}}


@mutant("items_arrive_in_order")
def turns_items_around() -> Replacements:
    """The newest item comes first."""

    async def receive(self: MemoryCall) -> bytes | None:
        while not self._items:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._items.pop()

    return {MemoryCall: {"receive": receive}}


@mutant("a_failure_ends_a_stream_after_its_items")
def failures_overtake() -> Replacements:
    """A failure comes before the items that were sent."""
    whole = MemoryListener._run_stream

    async def run(self: MemoryListener, call: MemoryCall, request: Request) -> None:
        try:
            await whole(self, call, request)
        except Failure:
            call._items.clear()
            raise

    return {MemoryListener: {"_run_stream": run}}


@mutant("a_failure_ends_a_stream_after_its_items")
def failures_look_like_ends() -> Replacements:
    """A stream that fails seems to end."""
    whole = MemoryCall.end
    return {MemoryCall: {"end": lambda self, error=None: whole(self)}}


@mutant("a_failure_crosses_whole")
def failures_lose_their_detail() -> Replacements:
    """Only the code and the message of a failure cross."""
    whole = MemoryCall.end

    def end(self: MemoryCall, error: Failure | None = None) -> None:
        whole(self, error and Failure(error.code, error.message))

    return {MemoryCall: {"end": end}}


@mutant("a_bug_in_a_handler_is_a_failure")
def bugs_are_silence() -> Replacements:
    """A caller is not told of a handler's bug."""
    whole = MemoryCall.end

    def end(self: MemoryCall, error: Failure | None = None) -> None:
        if error is None or error.code != "remote_error":
            whole(self, error)

    return {MemoryCall: {"end": end}}


@mutant("a_handler_that_cancels_itself_is_an_error")
def cancellations_are_silence() -> Replacements:
    """A caller is not told of a handler that was cancelled."""
    whole = MemoryListener._on_done

    def done(self: MemoryListener, call: MemoryCall, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            del self._calls[call]
        else:
            whole(self, call, task)

    return {MemoryListener: {"_on_done": done}}


@mutant("the_request_arrives_as_it_was_sent")
def loses_metadata() -> Replacements:
    """Metadata is not sent."""
    whole = MemoryChannel._begin

    def begin(self: MemoryChannel, request: Request, *, stream: bool) -> MemoryCall:
        request.metadata = None
        return whole(self, request, stream=stream)

    return {MemoryChannel: {"_begin": begin}}


@mutant("the_request_arrives_as_it_was_sent")
def sends_seconds_as_milliseconds() -> Replacements:
    """The remaining time arrives in another unit."""
    whole = MemoryListener.answer

    def answer(self: MemoryListener, call: MemoryCall, request: Request, *, stream: bool) -> None:
        now = asyncio.get_running_loop().time()
        deadline = None if request.deadline is None else now + (request.deadline - now) * 1000
        whole(self, call, msgspec.structs.replace(request, deadline=deadline), stream=stream)

    return {MemoryListener: {"answer": answer}}


@mutant("handlers_do_not_see_the_callers_context")
def leaks_the_context() -> Replacements:
    """A handler runs in the context of its caller."""
    whole = MemoryListener.answer

    def answer(self: MemoryListener, call: MemoryCall, request: Request, *, stream: bool) -> None:
        self._context = contextvars.copy_context()
        whole(self, call, request, stream=stream)

    return {MemoryListener: {"answer": answer}}


@mutant("a_slow_handler_holds_up_nobody")
def one_at_a_time() -> Replacements:
    """A listener answers one request after the other."""
    whole = MemoryListener._run_request
    turns: dict[MemoryListener, asyncio.Lock] = {}

    async def run(self: MemoryListener, call: MemoryCall, request: Request) -> None:
        async with turns.setdefault(self, asyncio.Lock()):
            await whole(self, call, request)

    return {MemoryListener: {"_run_request": run}}


@mutant("nodes_can_call_each_other_in_circles")
def one_call_a_channel() -> Replacements:
    """A channel carries one request after the other."""
    whole = MemoryChannel.request
    turns: dict[MemoryChannel, asyncio.Lock] = {}

    async def request(self: MemoryChannel, *arguments: Any, **options: Any) -> bytes:
        async with turns.setdefault(self, asyncio.Lock()):
            return await whole(self, *arguments, **options)

    return {MemoryChannel: {"request": request}}


@mutant("bodies_are_limited")
def any_size() -> Replacements:
    """The declared limit of a body is not kept."""

    def guarantees(self: MemoryWire) -> WireGuarantees:
        return WireGuarantees(engine="memory", scope=Scope.PROCESS, max_body_bytes=1024 * 1024)

    return {MemoryWire: {"guarantees": property(guarantees)}}


@mutant("an_address_is_bound_once")
def takes_over_addresses() -> Replacements:
    """A second listener takes over the address of the first."""
    whole = MemoryNetwork.bind

    def bind(self: MemoryNetwork, address: str, listener: MemoryListener) -> str:
        self._listeners.pop(address, None)
        return whole(self, address, listener)

    return {MemoryNetwork: {"bind": bind}}


@mutant("closing_the_listener_loses_its_calls")
def closing_leaves_the_callers() -> Replacements:
    """Those who wait are not told that the listener has closed."""

    def abort(self: MemoryListener, why: str) -> None:
        self._refuses = "is closed"
        self._wire.release(self)

    return {MemoryListener: {"abort": abort}}


@mutant("closing_the_channel_loses_its_calls")
def closing_leaves_the_handlers() -> Replacements:
    """A closed channel leaves its calls under way."""

    def abort(self: MemoryChannel, why: str) -> None:
        self._closed = True

    return {MemoryChannel: {"abort": abort}}


@mutant("closing_the_channel_loses_its_calls")
def closes_all_channels() -> Replacements:
    """Closing one channel loses the calls of others to the same address."""

    def lose_calls(self: MemoryChannel, node: str | None, why: str) -> None:
        for call in [call for mine in self._calls for call in mine.listener._calls]:
            call.lose(why)

    return {MemoryChannel: {"lose_calls": lose_calls}}


@mutant("closing_a_wire_closes_everything_of_it")
def closes_listeners_only() -> Replacements:
    """A closed wire leaves its channels open."""

    def abort(self: MemoryWire, why: str) -> None:
        self._closed = True
        for listener in tuple(self._listeners.values()):
            listener.abort(why)

    return {MemoryWire: {"abort": abort}}


@mutant("a_channel_connects_again")
def never_connects_again() -> Replacements:
    """A channel that has lost its listener is lost for good."""
    listeners: dict[MemoryChannel, MemoryListener] = {}
    begin = MemoryChannel._begin

    def first_only(self: MemoryChannel, request: Request, *, stream: bool) -> MemoryCall:
        call = begin(self, request, stream=stream)
        known = listeners.setdefault(self, call.listener)
        if known is not call.listener:
            raise Unavailable("lost", outcome=Outcome.NOT_APPLIED)
        return call

    return {MemoryChannel: {"_begin": first_only}}


@mutant("draining_finishes_what_was_accepted")
def drains_and_takes() -> Replacements:
    """A draining listener takes new requests."""

    async def drain(self: MemoryListener, timeout_s: float) -> int:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return len(self._calls)

    return {MemoryListener: {"drain": drain}}


@mutant("draining_finishes_what_was_accepted")
def drains_at_once() -> Replacements:
    """A drain does not wait for what is under way."""

    async def drain(self: MemoryListener, timeout_s: float) -> int:
        self._refuses = "is shutting down"
        return 0

    return {MemoryListener: {"drain": drain}}


@mutant("draining_gives_up_at_its_time")
def drains_for_ever() -> Replacements:
    """A drain does not look at its time."""

    async def drain(self: MemoryListener, timeout_s: float) -> int:
        self._refuses = "is shutting down"
        await self._idle.wait()
        return 0

    return {MemoryListener: {"drain": drain}}


@mutant("no_request_is_lost_by_a_drain")
def drops_what_it_drains() -> Replacements:
    """A drain drops what has not begun."""
    whole = MemoryListener.drain

    async def drain(self: MemoryListener, timeout_s: float) -> int:
        for call in tuple(self._calls)[:1]:
            call._abort(Unavailable("shutting down", outcome=Outcome.NOT_APPLIED))
        return await whole(self, timeout_s)

    return {MemoryListener: {"drain": drain}}


@mutant("a_lost_connection_ends_a_stream")
def a_loss_is_an_end() -> Replacements:
    """A stream whose connection is lost seems to end."""

    def lose(self: MemoryCall, why: str) -> None:
        self._items.clear()
        self.end()
        self.leave()

    return {MemoryCall: {"lose": lose}}


@mutant("streams_share_a_channel")
def one_stream_a_channel() -> Replacements:
    """The items of all streams of a channel go into one buffer."""
    buffers: dict[MemoryListener, Any] = {}
    whole = MemoryListener.answer

    def answer(self: MemoryListener, call: MemoryCall, request: Request, *, stream: bool) -> None:
        if stream:
            call._items = buffers.setdefault(self, call._items)
        whole(self, call, request, stream=stream)

    return {MemoryListener: {"answer": answer}}


@mutant("datagrams_arrive_when_all_is_well")
def no_datagrams() -> Replacements:
    """Datagrams are dropped."""
    return {MemoryChannel: {"datagram": lambda self, body: None}}


@mutant("a_datagram_never_raises")
def datagrams_raise() -> Replacements:
    """A datagram to nobody raises."""

    def datagram(self: MemoryChannel, body: bytes) -> None:
        self._wire.reach(self._address).deliver(body, self._wire.address)

    return {MemoryChannel: {"datagram": datagram}}


@mutant("a_request_gets_its_reply")
def cuts_bodies() -> Replacements:
    """A body beyond a buffer's size is cut."""
    whole = MemoryCall.send

    async def send(self: MemoryCall, item: bytes) -> None:
        await whole(self, item[:65536])

    return {MemoryCall: {"send": send}}
