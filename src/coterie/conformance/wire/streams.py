"""Streams: order, credit, early ends; and datagrams."""

from __future__ import annotations

import asyncio

from ...errors import DeadlineExceeded, Outcome, Unavailable
from ...ports.wire import Failure
from .._expect import Violation, eventually, expect, expect_equal, raises, settle
from ..suite import check
from .fixture import HANG_S, WireFixture, connected, decoded, encoded, gather_items, leave, wait_pending

_MOST_UNDER_WAY = 1024
"""What this suite accepts as "a fixed number" of items between a sender and a reader that does not read."""


@check
async def items_arrive_in_order(fixture: WireFixture) -> None:
    """Every item of a stream arrives, once and in order, and then the stream ends."""
    async with connected(fixture) as (service, listener, channel):
        for count in (0, 1, 2, 2000):
            items = await gather_items(channel.stream("count", encoded(count), timeout_s=HANG_S))
            expect_equal(items, list(range(count)), f"the items of a stream of {count}")
        large = await gather_items(channel.stream("large", encoded(0), timeout_s=None))
        expect(large == [bytes([index]) * 1_000_000 for index in range(8)], "large items came back changed")
        expect(service.requests[-1].deadline is None, "a stream without a limit of time has a deadline")
        await wait_pending(0, channel, listener)


@check
async def streams_share_a_channel(fixture: WireFixture) -> None:
    """Many streams and requests of one channel run side by side, each with its own items."""
    async with connected(fixture) as (_service, _listener, channel):
        counts = [n * 13 % 200 for n in range(30)]
        streams = [gather_items(channel.stream("count", encoded(n), timeout_s=HANG_S)) for n in counts]
        requests = [channel.request("echo", encoded(n), timeout_s=HANG_S) for n in counts]
        items, replies = await asyncio.gather(asyncio.gather(*streams), asyncio.gather(*requests))
        expect_equal(items, [list(range(n)) for n in counts], "the items")
        expect_equal([decoded(reply) for reply in replies], counts, "the replies")


@check
async def a_slow_reader_slows_the_sender(fixture: WireFixture) -> None:
    """No more than a fixed number of items is under way to a reader that does not read them."""
    async with connected(fixture) as (service, _listener, channel):
        stream = channel.stream("count", encoded(100_000), timeout_s=None)
        items = await gather_items(stream, most=1)
        produced = await settle(lambda: service.produced)
        expect(produced <= _MOST_UNDER_WAY, f"{produced} items were sent to a reader that took one")
        reply = await channel.request("echo", encoded("beside"), timeout_s=HANG_S)
        expect_equal(decoded(reply), "beside", "the reply to a request beside the stalled stream")
        items += await gather_items(stream, most=2999)
        expect_equal(items, list(range(3000)), "the items read later")
        produced = await settle(lambda: service.produced)
        expect(produced <= 3000 + _MOST_UNDER_WAY, f"{produced} items were sent to a reader that took 3000")
        await leave(stream)
        await service.wait_cancelled()


@check
async def a_failure_ends_a_stream_after_its_items(fixture: WireFixture) -> None:
    """A `Failure` arrives behind the items that were sent before it; any other error is a `Failure` too."""
    async with connected(fixture) as (_service, listener, channel):
        for target, code in (("fail", "not_found"), ("bug", "")):
            stream = channel.stream(target, encoded(20), timeout_s=HANG_S)
            expect_equal(await gather_items(stream, most=20), list(range(20)), "the items before the failure")
            try:
                item = await asyncio.wait_for(anext(stream), HANG_S)
            except Failure as failure:
                if code:
                    expect_equal((failure.code, failure.message), (code, "the stream broke"), "the failure")
                    expect_equal(decoded(failure.detail), 20, "its detail")
            except StopAsyncIteration:
                raise Violation("the stream ended as if nothing had failed") from None
            else:
                raise Violation(f"the stream goes on with {item!r}")
        await wait_pending(0, channel, listener)


@check
async def leaving_a_stream_cancels_its_handler(fixture: WireFixture) -> None:
    """`aclose` of a stream, and the end of the task that reads it, end the handler."""
    async with connected(fixture) as (service, listener, channel):
        stream = channel.stream("wait", encoded(3), timeout_s=None)
        await gather_items(stream, most=3)
        await leave(stream)
        await service.wait_cancelled(1)
        reader = asyncio.create_task(gather_items(channel.stream("wait", encoded(3), timeout_s=None)))
        await service.wait_running(1)
        reader.cancel()
        await service.wait_cancelled(2)
        await wait_pending(0, channel, listener)


@check
async def the_deadline_ends_a_stream(fixture: WireFixture) -> None:
    """`timeout_s` bounds the whole stream: at its end comes `DeadlineExceeded`, and the handler stops."""
    async with connected(fixture) as (service, listener, channel):
        stream = channel.stream("wait", encoded(3), timeout_s=0.1)
        with raises(DeadlineExceeded):
            await gather_items(stream)
        await service.wait_cancelled()
        await wait_pending(0, channel, listener)


@check
async def a_lost_connection_ends_a_stream(fixture: WireFixture) -> None:
    """When either end closes, the reader gets `Unavailable` and the handler is cancelled."""
    for closed_by in ("listener", "channel"):
        async with connected(fixture) as (service, listener, channel):
            stream = channel.stream("wait", encoded(2), timeout_s=None)
            await gather_items(stream, most=2)
            await (listener.close() if closed_by == "listener" else channel.close())
            with raises(Unavailable, Outcome.UNKNOWN, what=f"the stream, closed by its {closed_by},"):
                await gather_items(stream)
            await service.wait_cancelled()


@check
async def datagrams_arrive_when_all_is_well(fixture: WireFixture) -> None:
    """A datagram sent again and again reaches the handler, with the address of its sender."""
    async with connected(fixture) as (service, _listener, channel):

        async def arrived() -> bool:
            channel.datagram(encoded("heartbeat"))
            return bool(service.datagrams)

        await eventually(arrived, "a datagram arrives")
        body, peer = service.datagrams[0]
        expect_equal(body, "heartbeat", "the datagram")
        expect(peer, f"the peer is {peer!r}")
        reply = await channel.request("echo", encoded(1), timeout_s=HANG_S)
        expect_equal(decoded(reply), 1, "the reply to a request on the same channel")


@check
async def a_datagram_never_raises(fixture: WireFixture) -> None:
    """Sending a datagram to nobody, on a closed channel or of any size does nothing worse than get lost."""
    async with connected(fixture) as (_service, listener, channel):
        channel.datagram(encoded("first"))
        await channel.request("echo", encoded(1), timeout_s=HANG_S)
        channel.datagram(b"x" * (fixture.wire.guarantees.max_body_bytes + 1))
        reply = await channel.request("echo", encoded(2), timeout_s=HANG_S)
        expect_equal(decoded(reply), 2, "the reply after an oversized datagram")
        await listener.close()
        channel.datagram(encoded("to nobody"))
        await asyncio.sleep(0.02)
        await channel.close()
        channel.datagram(encoded("after the end"))
        await asyncio.sleep(0.02)
