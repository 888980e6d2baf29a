"""Losing, draining and closing connections."""

from __future__ import annotations

import asyncio

from ...errors import CoterieError, Outcome, Unavailable
from ...ports.wire import Channel
from .._expect import eventually, expect, expect_equal, raises
from ..suite import check
from .fixture import HANG_S, Service, WireFixture, connected, decoded, encoded, gather_items, wait_pending


async def _call(channel: Channel, target: str, value: object = None) -> object:
    return decoded(await channel.request(target, encoded(value), timeout_s=HANG_S))


async def _demand_lost(calls: list[asyncio.Task[object]], what: str) -> None:
    _done, hanging = await asyncio.wait(calls, timeout=HANG_S)
    expect(not hanging, f"{len(hanging)} calls still wait although {what}")
    for call in calls:
        with raises(Unavailable, Outcome.UNKNOWN, what=f"a call under way when {what}"):
            call.result()


@check
async def the_guarantees_make_sense(fixture: WireFixture) -> None:
    """The declared limit allows useful bodies, and is the same for every node."""
    given = fixture.wire.guarantees
    expect(given.engine, "the guarantees name no engine")
    expect(given.max_body_bytes >= 65536, f"max_body_bytes is {given.max_body_bytes}, below 64 KiB")
    expect_equal((await fixture.connect()).guarantees, given, "what another node guarantees")


@check
async def closing_the_listener_loses_its_calls(fixture: WireFixture) -> None:
    """Calls under way when their listener closes are `Unavailable`, and their handlers are cancelled."""
    async with connected(fixture) as (service, listener, channel):
        calls = [asyncio.create_task(_call(channel, "wait", index)) for index in range(5)]
        await service.wait_running(5)
        await listener.close()
        await listener.close()
        await _demand_lost(calls, "the listener closed")
        await service.wait_cancelled(5)
        with raises(Unavailable, Outcome.NOT_APPLIED, what="a call after the listener closed"):
            await _call(channel, "echo")
        await wait_pending(0, channel, listener)


@check
async def closing_the_channel_loses_its_calls(fixture: WireFixture) -> None:
    """Calls under way when their channel closes are `Unavailable`; other channels do not notice."""
    async with connected(fixture) as (service, listener, channel):
        other = (await fixture.connect()).connect(listener.address)
        kept = asyncio.create_task(_call(other, "wait", "kept"))
        calls = [asyncio.create_task(_call(channel, "wait", index)) for index in range(5)]
        await service.wait_running(6)
        await channel.close()
        await channel.close()
        await _demand_lost(calls, "the channel closed")
        await service.wait_cancelled(5)
        with raises(Unavailable, Outcome.NOT_APPLIED, what="a call on a closed channel"):
            await _call(channel, "echo")
        service.release.set()
        expect_equal(await kept, "kept", "the reply on the other channel")


@check
async def closing_a_wire_closes_everything_of_it(fixture: WireFixture) -> None:
    """When a node's wire closes, its own calls and those to it are lost, and nothing new begins."""
    service = Service()
    caller, callee = await fixture.connect(), await fixture.connect()
    theirs = await fixture.wire.listen(fixture.free_address, service.handlers)
    own = await caller.listen(fixture.free_address, service.handlers)
    outward, inward = caller.connect(theirs.address), callee.connect(own.address)
    calls = [asyncio.create_task(_call(channel, "wait", 1)) for channel in (outward, inward)]
    await service.wait_running(2)
    await caller.close()
    await caller.close()
    await _demand_lost(calls, "a wire closed")
    await service.wait_cancelled(2)
    for channel in (outward, inward, caller.connect(theirs.address)):
        with raises(Unavailable, Outcome.NOT_APPLIED, what="a call with a closed wire"):
            await _call(channel, "echo")
    with raises(Unavailable, what="listening with a closed wire"):
        await caller.listen(fixture.free_address, service.handlers)
    expect_equal(await _call(callee.connect(theirs.address), "echo", 1), 1, "a reply among the others")


@check
async def a_channel_connects_again(fixture: WireFixture) -> None:
    """After its listener was lost, a channel works again once another listens at the same address."""
    async with connected(fixture) as (_service, listener, channel):
        expect_equal(await _call(channel, "echo", 1), 1, "the first reply")
        await listener.close()
        again = Service()
        second = await fixture.wire.listen(listener.address, again.handlers)
        expect_equal(second.address, listener.address, "the address")

        async def answered() -> bool:
            try:
                return await _call(channel, "echo", 2) == 2
            except Unavailable:
                return False

        await eventually(answered, "the channel works again")
        expect_equal(again.seen[2], 1, "how often the request arrived")


@check
async def draining_finishes_what_was_accepted(fixture: WireFixture) -> None:
    """A draining listener answers what it has, refuses what is new as not applied, and returns when idle."""
    async with connected(fixture) as (service, listener, channel):
        calls = [asyncio.create_task(_call(channel, "wait", index)) for index in range(4)]
        stream = asyncio.create_task(gather_items(channel.stream("wait", encoded(2), timeout_s=None)))
        await service.wait_running(5)
        draining = asyncio.create_task(listener.drain(HANG_S))
        await asyncio.sleep(0.02)
        seen = len(service.requests)
        fresh = (await fixture.connect()).connect(listener.address)
        for caller in (channel, fresh):
            with raises(Unavailable, Outcome.NOT_APPLIED, what="a request to a draining listener"):
                await _call(caller, "echo")
            with raises(Unavailable, Outcome.NOT_APPLIED, what="a stream from a draining listener"):
                await gather_items(caller.stream("count", encoded(1), timeout_s=HANG_S))
        expect_equal(len(service.requests), seen, "how many requests reached the handler")
        expect(not draining.done(), "the drain ended although requests are under way")
        service.release.set()
        expect_equal(await asyncio.gather(*calls), list(range(4)), "the replies of what was accepted")
        expect_equal(await stream, [0, 1], "the items of the stream that was accepted")
        expect_equal(await asyncio.wait_for(draining, HANG_S), 0, "how many the drain left")


@check
async def draining_gives_up_at_its_time(fixture: WireFixture) -> None:
    """A drain whose time is over returns how many are still under way, and leaves them running."""
    async with connected(fixture) as (service, listener, channel):
        calls = [asyncio.create_task(_call(channel, "wait", index)) for index in range(3)]
        await service.wait_running(3)
        left = await asyncio.wait_for(listener.drain(0.05), HANG_S)
        expect_equal((left, service.cancelled), (3, 0), "how many the drain left, and cancelled")
        service.release.set()
        expect_equal(await asyncio.gather(*calls), list(range(3)), "the replies")
        expect_equal(await asyncio.wait_for(listener.drain(HANG_S), HANG_S), 0, "what a second drain left")


@check
async def no_request_is_lost_by_a_drain(fixture: WireFixture) -> None:
    """While a listener drains under traffic, each request is answered or was certainly not applied."""
    async with connected(fixture) as (service, listener, channel):
        answered: set[int] = set()

        async def call(index: int) -> None:
            try:
                await _call(channel, "turns", index)
            except CoterieError as error:
                expect_equal(error.outcome, Outcome.NOT_APPLIED, "the outcome of a request that was refused")
            else:
                answered.add(index)

        calls = [asyncio.create_task(call(index)) for index in range(60)]
        for _ in range(5):
            await asyncio.sleep(0)
        left = await asyncio.wait_for(listener.drain(HANG_S), HANG_S)
        await asyncio.wait_for(asyncio.gather(*calls), HANG_S)
        expect_equal(left, 0, "how many the drain left")
        expect_equal(set(service.seen), answered, "what reached a handler, beside what was answered,")
