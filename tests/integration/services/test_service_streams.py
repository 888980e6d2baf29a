"""Async generators as streamed results: whole, closed early, failing midway, slow to be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest
from service_place import PLACES, Place, eventually, open_place

from coterie.context import current
from coterie.errors import DeadlineExceeded, InvalidArgument, Outcome, Unavailable
from coterie.resilience import Breaker, BreakerState, idempotency_key


class Broken(Exception):
    pass


class Source:
    def __init__(self) -> None:
        self.produced = 0
        self.closed = 0
        self.release = asyncio.Event()

    async def count(self, to: int) -> AsyncIterator[int]:
        try:
            for index in range(to):
                self.produced += 1
                yield index
        finally:
            self.closed += 1

    async def wait(self, first: list[str]) -> AsyncIterator[str]:
        try:
            for item in first:
                yield item
            await self.release.wait()
            yield "released"
        finally:
            self.closed += 1

    async def keys(self) -> AsyncIterator[str | None]:
        yield current().key
        yield current().key

    async def break_after(self, count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 1000
        raise Broken(f"after {count}")


@pytest.fixture
async def source(place: Place) -> Source:
    return Source()


@pytest.fixture
async def client(place: Place, source: Source) -> Any:
    place.errors.register(Broken)
    return await place.serve(source)


def closing(stream: Any) -> Any:
    return aclosing(cast("Any", stream))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 63, 64, 65, 1000])
async def test_all_items_arrive_in_order(client: Any, source: Source, count: int) -> None:
    assert [item async for item in client.count(count)] == list(range(count))
    assert (source.produced, source.closed) == (count, 1)


async def test_items_arrive_while_the_rest_is_not_there_yet(client: Any, source: Source) -> None:
    items = client.wait(["a", "b"])
    assert [await anext(items), await anext(items)] == ["a", "b"]
    assert source.closed == 0
    source.release.set()
    assert [item async for item in items] == ["released"]


async def test_what_a_stream_leads_to_has_keys_of_its_own(client: Any) -> None:
    with idempotency_key("of the caller"):
        items = client.keys()
        assert [item async for item in items] == [None, None]
        assert current().key == "of the caller"


async def test_leaving_early_closes_the_generator(client: Any, source: Source) -> None:
    async with closing(client.count(1_000_000)) as items:
        async for item in items:
            if item == 5:
                break
    await eventually(lambda: source.closed == 1)
    assert source.produced < 1000


async def test_leaving_while_nothing_comes_closes_the_generator(client: Any, source: Source) -> None:
    items = client.wait(["a"])
    assert await anext(items) == "a"
    reading = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await items.aclose()
    await eventually(lambda: source.closed == 1)


async def test_in_process_a_closed_stream_has_ended_when_the_close_returns() -> None:
    async with open_place(PLACES[0]) as place:
        source = Source()
        items = cast("Any", await place.serve(source)).count(10)
        assert await anext(items) == 0
        await items.aclose()
        assert source.closed == 1


async def test_a_reader_that_waits_slows_the_generator(client: Any, source: Source) -> None:
    async with closing(client.count(100_000)) as items:
        assert await anext(items) == 0
        for _ in range(50):
            await asyncio.sleep(0)
        before = source.produced
        assert before < 1000
        for expected in range(1, 2001):
            assert await anext(items) == expected
        assert source.produced > before


@pytest.mark.parametrize("count", [0, 1, 100])
async def test_a_failure_midway_comes_after_the_items_before_it(client: Any, count: int) -> None:
    stream = client.break_after(count)
    assert [await anext(stream) for _ in range(count)] == [b"x" * 1000] * count
    with pytest.raises(Broken, match=f"after {count}"):
        await anext(stream)


async def test_wrong_arguments_are_told_by_the_first_item(client: Any, source: Source) -> None:
    with pytest.raises(InvalidArgument, match=r"Source\.count: parameter `to`: expected `int`, got `str`"):
        await anext(client.count("three"))
    with pytest.raises(InvalidArgument, match=r"Source\.count: unexpected keyword argument 'up_to'"):
        await anext(client.count(up_to=3))
    assert source.produced == 0


async def test_the_callers_deadline_ends_a_stream(place: Place, client: Any, source: Source) -> None:
    assert [item async for item in client.count(1)] == [0]  # It takes time to connect.
    with place.calling(timeout_s=0.3):
        items = client.wait(["a"])
        assert await anext(items) == "a"
        with pytest.raises(DeadlineExceeded) as caught:
            await anext(items)
    assert caught.value.outcome is Outcome.UNKNOWN
    await eventually(lambda: source.closed == 2)


async def test_many_streams_at_once_do_not_mix(client: Any) -> None:
    async def read(count: int) -> list[int]:
        return [item async for item in client.count(count)]

    counts = [3, 500, 1, 0, 77, 250] * 5
    assert await asyncio.gather(*map(read, counts)) == [list(range(count)) for count in counts]


async def test_a_large_item_arrives_and_one_above_the_limit_does_not(far: Place) -> None:
    class Large:
        async def items(self, sizes: list[int]) -> AsyncIterator[bytes]:
            for size in sizes:
                yield b"x" * size

    client: Any = await far.serve(Large())
    limit = far.wires[0].guarantees.max_body_bytes
    sizes = [1, 5_000_000, limit - 5, 2]
    assert [len(item) async for item in client.items(sizes)] == sizes
    stream = client.items([1, limit])
    assert await anext(stream) == b"x"
    with pytest.raises(InvalidArgument, match="limit") as caught:
        await anext(stream)
    assert caught.value.code == "too_large"
    assert [len(item) async for item in client.items([3])] == [3]


def half_open(place: Place) -> Breaker:
    """Return the breaker of the only endpoint, which has failed some time ago and may be tried again."""
    binding = place.bindings[place.spec(Source)]
    router = binding._plans["count"].router
    router.update(place.directory.endpoints("Source"), 0.0)
    breaker: Breaker = router.only.breaker
    breaker._open(0.0, 0.001)
    return breaker


async def test_streams_that_work_close_the_breaker_of_their_endpoint(far: Place) -> None:
    client = await far.serve(Source())
    breaker = half_open(far)
    for _ in range(2):
        assert [item async for item in client.count(3)] == [0, 1, 2]
    assert breaker.state is BreakerState.CLOSED


async def test_streams_that_say_nothing_leave_their_endpoint_to_the_next(far: Place) -> None:
    source = Source()
    client = cast("Any", await far.serve(source))
    breaker = half_open(far)
    for closed in range(1, 5):
        reading = asyncio.ensure_future(anext(client.wait([])))
        await eventually(lambda: far.dispatchers["callee"].pending == 1)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await eventually(lambda closed=closed: source.closed == closed)
    assert breaker.would_admit(asyncio.get_running_loop().time())


async def test_a_lost_connection_ends_a_stream_as_unknown(far: Place) -> None:
    source = Source()
    client = await far.serve(source)
    items = client.wait(["a"])
    assert await anext(items) == "a"
    await far.listeners["callee"].close()
    with pytest.raises(Unavailable) as caught:
        await anext(items)
    assert caught.value.outcome is Outcome.UNKNOWN
    await eventually(lambda: source.closed == 1)
