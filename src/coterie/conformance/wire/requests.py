"""Requests: reply, failure, deadline, cancellation, isolation."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

from ...context import Metadata
from ...errors import CoterieError, DeadlineExceeded, InvalidConfiguration, Outcome, TooLarge, Unavailable
from ...ports.wire import Channel, Failure, Handlers, Request
from .._expect import Violation, expect, expect_equal, raises
from ..suite import check
from .fixture import HANG_S, Service, WireFixture, connected, decoded, encoded, framed, wait_pending


async def _call(channel: Channel, target: str, value: Any = None, *, timeout_s: float = HANG_S) -> Any:
    return decoded(await channel.request(target, encoded(value), timeout_s=timeout_s))


async def _failure(channel: Channel, target: str, value: Any = None) -> Failure:
    try:
        answer = await _call(channel, target, value)
    except Failure as failure:
        return failure
    raise Violation(f"the request {target!r} was answered with {answer!r} and did not fail")


@check
async def a_request_gets_its_reply(fixture: WireFixture) -> None:
    """The body that a handler returns arrives as the reply, whatever msgpack value it is."""
    values = [
        None,
        0,
        "é",
        b"",
        bytes(range(256)),
        {},
        {"a": [1, 2.5, {"b": None}]},
        "x" * 70_000,
        b"y" * 1_000_000,
    ]
    async with connected(fixture) as (service, _listener, channel):
        for value in values:
            expect(await _call(channel, "echo", value) == value, f"{str(value)[:40]!r} did not come back")
        expect_equal(len(service.requests), len(values), "how many requests reached the handler")


@check
async def each_request_gets_its_own_reply(fixture: WireFixture) -> None:
    """Of hundreds of requests at once, answered in any order, each gets the reply that is its own."""
    async with connected(fixture) as (service, listener, channel):
        values = list(range(300))
        calls = [_call(channel, "turns", (value * 37) % 50) for value in values]
        answers = await asyncio.gather(*calls)
        expect_equal(answers, [(value * 37) % 50 for value in values], "the replies")
        expect_equal(len(service.requests), len(values), "how many requests reached the handler")
        await wait_pending(0, channel, listener)


@check
async def a_slow_handler_holds_up_nobody(fixture: WireFixture) -> None:
    """A request is answered while others of the same channel wait, and `pending` counts those."""
    async with connected(fixture) as (service, listener, channel):
        waiting = [asyncio.create_task(_call(channel, "wait", index)) for index in range(5)]
        await service.wait_running(5)
        expect_equal(await _call(channel, "echo", "fast"), "fast", "the reply")
        await wait_pending(5, channel, listener)
        service.release.set()
        expect_equal(await asyncio.gather(*waiting), list(range(5)), "the replies")
        await wait_pending(0, channel, listener)


@check
async def the_request_arrives_as_it_was_sent(fixture: WireFixture) -> None:
    """Target, metadata and remaining time arrive, with a peer's address for the logs."""
    full = Metadata("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "key-é", b"\x00causal", 3)
    loop = asyncio.get_running_loop()
    async with connected(fixture) as (service, _listener, channel):
        for target, metadata, timeout_s in (
            ("Shop.buy", full, 5.0),
            ("Läden.kauf", None, 60.0),
            ("x", Metadata(), 1e6),
        ):
            began = loop.time()
            await channel.request(target, encoded(1), timeout_s=timeout_s, metadata=metadata)
            request = service.requests[-1]
            expect_equal(request.target, target, "the target")
            expect_equal(request.metadata or Metadata(), metadata or Metadata(), "the metadata")
            late = (request.deadline or 0.0) - (began + timeout_s)
            # It is anchored anew where it arrives, so it may shift by the time under way, and by rounding.
            expect(-0.01 <= late <= loop.time() - began + 0.01, f"the deadline arrived {late:.3f} s late")
            expect(request.peer, f"the peer is {request.peer!r}")


@check
async def a_failure_crosses_whole(fixture: WireFixture) -> None:
    """A `Failure` that a handler raises arrives with every field that it was given."""
    async with connected(fixture) as (_service, _listener, channel):
        failure = await _failure(channel, "fail", {"stock": 3})
        fields = (failure.code, failure.message, failure.hint, failure.outcome, failure.traceback)
        wanted = ("conflict", "the message", "the hint", Outcome.NOT_APPLIED, "the traceback")
        expect_equal(fields, wanted, "the failure")
        expect_equal(decoded(failure.detail), {"stock": 3}, "its detail")


@check
async def a_bug_in_a_handler_is_a_failure(fixture: WireFixture) -> None:
    """Any other error of a handler reaches its caller as a `Failure`, and the listener lives on."""
    async with connected(fixture) as (_service, listener, channel):
        for _ in range(3):
            failure = await _failure(channel, "bug")
            expect(failure.code, "the failure has no code")
        expect_equal(await _call(channel, "echo", 1), 1, "the next reply")
        await wait_pending(0, channel, listener)


@check
async def a_handler_that_cancels_itself_is_an_error(fixture: WireFixture) -> None:
    """A `CancelledError` from a handler's own doing does not cancel the caller, nor leave it waiting."""
    async with connected(fixture) as (_service, _listener, channel):
        try:
            await _call(channel, "cancel")
        except (Failure, CoterieError):
            pass
        else:
            raise Violation("the request was answered")
        expect_equal(await _call(channel, "echo", 1), 1, "the next reply")


@check
async def the_deadline_ends_a_request(fixture: WireFixture) -> None:
    """At its deadline a request raises `DeadlineExceeded`, outcome unknown, and its handler is cancelled."""
    loop = asyncio.get_running_loop()
    async with connected(fixture) as (service, listener, channel):
        await _call(channel, "echo")
        began = loop.time()
        with raises(DeadlineExceeded, Outcome.UNKNOWN):
            await asyncio.wait_for(_call(channel, "wait", timeout_s=0.1), HANG_S)
        expect(loop.time() - began >= 0.09, f"it ended after {loop.time() - began:.3f} s, before its time")
        await service.wait_cancelled()
        expect_equal(await _call(channel, "echo", 1), 1, "the next reply")
        await wait_pending(0, channel, listener)


@check
async def a_request_without_time_never_starts(fixture: WireFixture) -> None:
    """A request whose time is over before it is sent raises `DeadlineExceeded` and reaches no handler."""
    async with connected(fixture) as (service, _listener, channel):
        await _call(channel, "echo", "first")
        for timeout_s in (0.0, -1.0):
            with raises(DeadlineExceeded):
                await asyncio.wait_for(_call(channel, "echo", "late", timeout_s=timeout_s), HANG_S)
        await _call(channel, "echo", "last")
        expect_equal(service.seen["late"], 0, "how many of them reached the handler")


@check
async def cancelling_the_caller_cancels_the_handler(fixture: WireFixture) -> None:
    """When the caller of a request is cancelled, so is its handler, and no other."""
    async with connected(fixture) as (service, listener, channel):
        calls = [asyncio.create_task(_call(channel, "wait", index)) for index in range(3)]
        await service.wait_running(3)
        calls[1].cancel()
        await asyncio.wait([calls[1]], timeout=HANG_S)
        expect(calls[1].cancelled(), "the caller is not cancelled")
        await service.wait_cancelled(1)
        expect_equal(service.running, 2, "how many handlers still run")
        service.release.set()
        expect_equal(await asyncio.gather(calls[0], calls[2]), [0, 2], "the other replies")
        await wait_pending(0, channel, listener)


@check
async def a_request_reaches_its_handler_at_most_once(fixture: WireFixture) -> None:
    """Deadlines, cancellations and closings repeat no request, and `not_applied` means that none started."""
    service = Service()
    seen: dict[str, int] = {}

    async def request(request: Request) -> bytes:
        key = str(decoded(request.body))
        seen[key] = seen.get(key, 0) + 1
        await service.release.wait()
        return encoded(None)

    async def call(channel: Channel, key: str, timeout_s: float) -> None:
        try:
            await channel.request("x", encoded(key), timeout_s=timeout_s)
        except CoterieError as error:
            if error.outcome is Outcome.NOT_APPLIED and key in seen:
                raise Violation(
                    f"the request {key} reached a handler and is said not to be applied"
                ) from error

    handlers = Handlers(request=request, stream=service.handlers.stream)
    client = await fixture.connect()
    for round_ in range(6):
        listener = await fixture.wire.listen(fixture.free_address, handlers)
        channel = client.connect(listener.address)
        calls = [
            asyncio.create_task(call(channel, f"{round_}-{i}", 0.03 if i % 3 else HANG_S)) for i in range(20)
        ]
        for _ in range(round_ * 2):
            await asyncio.sleep(0)
        calls[0].cancel()
        await (listener.close() if round_ % 2 else channel.close())
        await asyncio.wait(calls, timeout=HANG_S)
        for call_ in calls[1:]:
            call_.result()
        await listener.close()
        await channel.close()
    repeated = {key: count for key, count in seen.items() if count > 1}
    expect_equal(repeated, {}, "the requests that reached a handler more than once")


@check
async def handlers_do_not_see_the_callers_context(fixture: WireFixture) -> None:
    """Context variables of the caller do not reach the handler: what crosses is in the request."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    service = Service()

    async def request(request: Request) -> bytes:
        seen = variable.get()
        variable.set("by the handler")
        return encoded([seen, decoded(request.body)])

    listener = await fixture.wire.listen(
        fixture.free_address, Handlers(request=request, stream=service.handlers.stream)
    )
    channel = (await fixture.connect()).connect(listener.address)
    for index in range(3):
        variable.set("by the caller")
        expect_equal(await _call(channel, "x", index), ["unset", index], "what the handler saw")
        expect_equal(variable.get(), "by the caller", "the caller's variable")


@check
async def nodes_can_call_each_other_in_circles(fixture: WireFixture) -> None:
    """A handler may call back, through any number of nodes, while its own caller waits."""
    wires = [fixture.wire, await fixture.connect()]
    channels: list[Channel] = []
    service = Service()

    def handlers(index: int) -> Handlers:
        async def request(request: Request) -> bytes:
            depth = decoded(request.body)
            if depth:
                return encoded(1 + await _call(channels[1 - index], "x", depth - 1))
            return encoded(0)

        return Handlers(request=request, stream=service.handlers.stream)

    listeners = [await wire.listen(fixture.free_address, handlers(i)) for i, wire in enumerate(wires)]
    channels += [wires[1 - i].connect(listener.address) for i, listener in enumerate(listeners)]
    depths = await asyncio.gather(*(_call(channel, "x", depth) for depth in range(8) for channel in channels))
    expect_equal(depths, [depth for depth in range(8) for _ in channels], "how deep the calls went")


@check
async def bodies_are_limited(fixture: WireFixture) -> None:
    """A body of `max_body_bytes` passes, a larger one is `TooLarge` and reaches nobody; both ways."""
    most = fixture.wire.guarantees.max_body_bytes
    largest = b"x" * (most - 5)  # msgpack puts 5 bytes before so many
    async with connected(fixture) as (service, _listener, channel):
        waiting = asyncio.create_task(_call(channel, "wait", "under way"))
        await service.wait_running(1)
        expect(await _call(channel, "echo", largest) == largest, "the largest body did not come back")
        service.requests.clear()
        with raises(TooLarge, Outcome.NOT_APPLIED, what="a request of one byte too many"):
            await _call(channel, "echo", largest + b"x")
        expect_equal(len(service.requests), 0, "how many such requests reached the handler")
        try:
            await _call(channel, "grow", most)
        except (Failure, TooLarge) as error:
            expect_equal(error.code, TooLarge.code, "the code of the error")
            expect_equal(error.outcome, Outcome.UNKNOWN, "the outcome of a call whose reply is too large")
        else:
            raise Violation("a reply of five bytes too many arrived")
        service.release.set()
        expect_equal(await waiting, "under way", "the reply to a request that was under way meanwhile")


@check
async def an_address_is_bound_once(fixture: WireFixture) -> None:
    """An address in use is an `InvalidConfiguration`; a free one is really bound, and each is another."""
    service = Service()
    first = await fixture.wire.listen(fixture.free_address, service.handlers)
    second = await fixture.wire.listen(fixture.free_address, service.handlers)
    expect(first.address != second.address, f"two listeners are both at {first.address}")
    other = await fixture.connect()
    for wire in (fixture.wire, other):
        with raises(InvalidConfiguration, what=f"listening at {first.address} again"):
            await wire.listen(first.address, service.handlers)
    with raises(InvalidConfiguration, what="listening at what is no address"):
        await other.listen("nonsense", service.handlers)
    for listener in (first, second):
        expect_equal(
            await _call(other.connect(listener.address), "echo", 1), 1, f"the reply of {listener.address}"
        )


@check
async def nobody_there_is_unavailable(fixture: WireFixture) -> None:
    """A call to an address where nobody listens raises `Unavailable`: it was certainly not applied."""
    listener = await fixture.wire.listen(fixture.free_address, Service().handlers)
    await listener.close()
    channel = (await fixture.connect()).connect(listener.address)
    for _ in range(2):
        with raises(Unavailable, Outcome.NOT_APPLIED, what="a request"):
            await asyncio.wait_for(_call(channel, "echo"), HANG_S)
        with raises(Unavailable, Outcome.NOT_APPLIED, what="a stream"):
            await asyncio.wait_for(anext(aiter(channel.stream("x", encoded(1), timeout_s=HANG_S))), HANG_S)


@check(when=framed)
async def malformed_bytes_harm_only_their_connection(fixture: WireFixture) -> None:
    """Bytes that are no frames close the connection they came on; calls on others go on."""
    async with connected(fixture) as (service, listener, channel):
        waiting = asyncio.create_task(_call(channel, "wait", "under way"))
        await service.wait_running(1)
        for data in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\xff" * 64,
            b"\x00" * 64,
            b"\x7f\xff\xff\xff" + b"a" * 99,
        ):
            await asyncio.wait_for(fixture.garble(listener.address, data), HANG_S)
            expect_equal(await _call(channel, "echo", 1), 1, "the reply on a good connection")
        service.release.set()
        expect_equal(await waiting, "under way", "the reply to the request that was under way")
