"""A trim holds for every client as soon as it has returned, whatever that client has heard of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats_kit import open_nats

from coterie import lab
from coterie.conformance.log.fixture import TOPIC, append, everything, values
from coterie.engines.nats import NatsEngine
from coterie.errors import Unavailable

_HELD_S = 0.3


def _hold_back(engine: NatsEngine, held_s: float) -> None:
    """Have all that the engine is told of the store come later."""
    consumer, loop = engine.replica._consumer, asyncio.get_running_loop()
    receive = consumer.receive
    consumer.receive = lambda *message: loop.call_later(held_s, receive, *message)  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("members", [1, 3])
async def test_a_trim_within_an_append_holds_for_a_client_that_has_not_heard_of_it(members: int) -> None:
    async with (
        lab.start("nats", members=members) as cluster,
        open_nats(cluster.url) as one,
        open_nats(cluster.url) as other,
    ):
        await one.log.create(TOPIC, 1)
        last = await append(one.log, b"a", b"b", b"c")
        _hold_back(one, _HELD_S)
        for kept in (b"b", b"c"):
            before = last if kept == b"c" else last - 1
            await other.log.trim(TOPIC, 0, before)
            segment = await one.log.read(TOPIC, 0, 0, limit=1)
            assert values(segment.records) == [kept]
            assert segment.records[0].offset == before


async def test_a_member_that_has_not_heard_of_a_trim_brings_nothing_back() -> None:
    async with lab.start("nats", members=3) as cluster, open_nats(cluster.url) as one:
        await one.log.create(TOPIC, 1)
        for value in (b"a", b"b", b"c"):
            await append(one.log, value)
        whole = await everything(one.log)
        (place,) = one.log._partitions.values()
        before = await one.link.some(place.stream, 1, 100, 1_000_000)
        async with open_nats(cluster.url) as other:
            _hold_back(one, 30)
            await other.log.trim(TOPIC, 0, whole[2].offset)

        async def some(*_: Any) -> Any:
            return before

        one.link.some = some  # type: ignore[method-assign]
        segment, _ = await place.read(0, 10)
        assert segment.records == tuple(whole[2:])


async def test_a_trim_that_was_cut_off_is_finished_by_the_next() -> None:
    async with lab.start("nats") as cluster, open_nats(cluster.url) as one, open_nats(cluster.url) as other:
        await one.log.create(TOPIC, 1)
        for value in (b"a", b"b", b"c"):
            await append(one.log, value)
        whole = await everything(one.log)
        api = one.link.api

        async def cut_off(subject: str, *rest: Any, **more: Any) -> Any:
            if "PURGE" in subject:
                raise Unavailable("cut off")
            return await api(subject, *rest, **more)

        one.link.api = cut_off  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await one.log.trim(TOPIC, 0, whole[2].offset)
        await other.replica.catch_up()
        await other.log.trim(TOPIC, 0, whole[1].offset)
        (place,) = other.log._partitions.values()
        assert (await place.state())["messages"] == 1
        assert await everything(other.log) == whole[2:]
