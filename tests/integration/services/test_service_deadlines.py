"""Deadlines and cancellation travel with calls, down the chain of services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from service_place import PLACES, Place, eventually, open_place

from coterie.context import Metadata, current
from coterie.errors import DeadlineExceeded, Outcome, RemoteError, Unavailable


class Worker:
    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.contexts: list[Any] = []
        self.next: Any = None

    async def remaining(self) -> float | None:
        """Return how much time the call has, in seconds."""
        self.contexts.append(current())
        deadline = current().deadline
        return None if deadline is None else deadline - asyncio.get_running_loop().time()

    async def wait(self) -> None:
        self.started += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def wait_below(self) -> None:
        self.started += 1
        try:
            await self.next.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def remaining_below(self) -> float | None:
        result: float | None = await self.next.remaining()
        return result

    async def give_up(self) -> None:
        raise asyncio.CancelledError

    async def stubborn(self) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return "never"

    async def items(self) -> AsyncIterator[float | None]:
        yield await self.remaining()


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def test_a_call_has_a_deadline_of_its_own(worker: Worker) -> None:
    for kind in PLACES:
        async with open_place(kind, timeout_s=7.0) as place:
            client = await place.serve(worker)
            remaining = await client.remaining()
            assert remaining is not None
            assert 0 < remaining <= 7.001


async def test_the_callers_deadline_travels_if_it_is_earlier(place: Place, worker: Worker) -> None:
    client = await place.serve(worker)
    with place.calling(timeout_s=3.0):
        remaining = await client.remaining()
        assert remaining is not None
        assert 0 < remaining <= 3.001
    with place.calling(timeout_s=1000.0):
        remaining = await client.remaining()
        assert remaining is not None
        assert 3.001 < remaining <= 20.001


async def test_the_deadline_travels_down_the_chain(place: Place, worker: Worker) -> None:
    outer, inner = await chain(place, worker)
    with place.calling(timeout_s=3.0):
        remaining = await outer.remaining_below()
        assert remaining is not None
        assert 0 < remaining <= 3.001
    assert inner.contexts


async def chain(place: Place, worker: Worker) -> tuple[Any, Worker]:
    """Return a client of a service that calls another, and that other."""

    class Inner(Worker):
        pass

    inner = Inner()
    outer = await place.serve(worker, node="outer")
    worker.next = await place.serve(inner, node="inner")
    return outer, inner


async def test_a_call_that_is_too_late_never_starts(place: Place, worker: Worker) -> None:
    client = await place.serve(worker)
    with place.calling(timeout_s=0.0), pytest.raises(DeadlineExceeded) as caught:
        await client.wait()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert worker.started == 0


async def test_the_deadline_ends_the_call_and_cancels_the_method(place: Place, worker: Worker) -> None:
    client = await place.serve(worker)
    await client.remaining()  # It takes time to connect.
    with place.calling(timeout_s=0.2), pytest.raises(DeadlineExceeded) as caught:
        await client.wait()
    assert caught.value.outcome is Outcome.UNKNOWN
    await eventually(lambda: worker.cancelled == 1)
    assert worker.started == 1


async def test_a_deadline_cancels_the_whole_chain(place: Place, worker: Worker) -> None:
    outer, inner = await chain(place, worker)
    await outer.remaining_below()  # It takes time to connect.
    with place.calling(timeout_s=0.3), pytest.raises(DeadlineExceeded):
        await outer.wait_below()
    await eventually(lambda: inner.cancelled == 1)
    assert inner.started == worker.started == 1


async def test_cancelling_the_caller_cancels_the_whole_chain(place: Place, worker: Worker) -> None:
    outer, inner = await chain(place, worker)
    calls = [asyncio.ensure_future(outer.wait_below()) for _ in range(3)]
    await eventually(lambda: inner.started == 3)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert all(call.cancelled() for call in calls)
    await eventually(lambda: inner.cancelled == worker.cancelled == 3)


async def test_a_method_that_does_not_end_does_not_hold_its_caller(far: Place, worker: Worker) -> None:
    client = await far.serve(worker)
    with far.calling(timeout_s=0.03), pytest.raises(DeadlineExceeded):
        await client.stubborn()
    assert await client.remaining() is not None


async def test_a_method_that_cancels_itself_is_a_remote_error(far: Place, worker: Worker) -> None:
    client = await far.serve(worker)
    with pytest.raises((RemoteError, Unavailable)) as caught:
        await client.give_up()
    assert caught.value.outcome is Outcome.UNKNOWN
    assert await client.remaining() is not None


async def test_what_waited_too_long_is_not_started(far: Place) -> None:
    """The deadline is checked again after queueing: the loop is busy while the calls wait in line."""

    class Busy:
        def __init__(self) -> None:
            self.started: list[int] = []

        async def work(self, number: int) -> None:
            self.started.append(number)
            end = asyncio.get_running_loop().time() + 0.06
            while asyncio.get_running_loop().time() < end:  # Hold the loop.
                pass

    busy = Busy()
    client = await far.serve(busy)
    with far.calling(timeout_s=0.1):
        calls = [asyncio.ensure_future(client.work(number)) for number in range(10)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    late = [result for result in results if isinstance(result, DeadlineExceeded)]
    assert len(busy.started) < 6
    assert len(late) >= 10 - len(busy.started)
    before = list(busy.started)
    await client.work(99)
    assert busy.started == [*before, 99]


async def test_metadata_travels_but_the_key_and_the_count_of_retries_stay(
    place: Place, worker: Worker
) -> None:
    outer, inner = await chain(place, worker)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with place.calling(metadata=Metadata(trace, "key", b"causal", 3)):
        await outer.remaining_below()
        async for _ in outer.items():
            pass
    for context in (inner.contexts[-1],):
        assert context.metadata == Metadata(trace, None, b"causal")
