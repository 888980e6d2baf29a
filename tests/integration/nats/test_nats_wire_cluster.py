"""The wire on three members, with each node at another one, while members die or stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from nats_kit import acknowledged, eventually, in_order

from coterie import lab
from coterie.conformance.wire.fixture import Service, decoded, encoded
from coterie.engines.nats import NatsConfig
from coterie.engines.nats.wire import NatsWire
from coterie.engines.system import SystemEntropy
from coterie.errors import CoterieError, Outcome, Unavailable
from coterie.ports.wire import Channel


@asynccontextmanager
async def node_at(cluster: lab.Cluster, *members: int) -> AsyncIterator[NatsWire]:
    """Open a wire over the first of these members, that goes on to the others."""
    wire = await NatsWire.open(NatsConfig.from_url(in_order(cluster, *members)), SystemEntropy())
    try:
        yield wire
    finally:
        await wire.close()


class Traffic:
    """Calls without end, and what became of each."""

    def __init__(self, channel: Channel, service: Service) -> None:
        self.channel = channel
        self.service = service
        self.answered: list[str] = []
        self.outcomes: dict[str, Outcome] = {}

    async def _call(self, name: int) -> None:
        for number in count():
            key = f"{name}/{number}"
            try:
                reply = await self.channel.request("echo", encoded(key), timeout_s=20)
            except CoterieError as error:
                self.outcomes[key] = error.outcome
                await asyncio.sleep(0.005)
            else:
                assert decoded(reply) == key
                self.answered.append(key)

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._call(name)) for name in range(8)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended

    async def more(self, calls: int) -> None:
        """Wait until so many further calls were answered."""
        wanted = len(self.answered) + calls
        await eventually(lambda: len(self.answered) >= wanted)

    def check(self) -> None:
        """Demand that no call was done twice, and none that is said not to be applied."""
        assert max(self.service.seen.values()) == 1
        for key, outcome in self.outcomes.items():
            assert outcome is Outcome.UNKNOWN or not self.service.seen[key], key
        assert all(self.service.seen[key] == 1 for key in self.answered)


async def test_who_listens_at_another_member_is_found_at_once() -> None:
    """Though the members tell each other a moment later."""
    async with (
        lab.start("nats", members=3) as cluster,
        node_at(cluster, 0) as listening,
        node_at(cluster, 1) as calling,
    ):
        for number in range(50):
            listener = await listening.listen("nats:0", Service().handlers)
            channel = calling.connect(listener.address)
            assert decoded(await channel.request("echo", encoded(number), timeout_s=20)) == number
            await channel.close()
            await listener.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "pause"])
@pytest.mark.parametrize("victim", ["the listener's", "the caller's"])
async def test_a_lost_member_ends_the_calls_over_it_truly_and_they_go_on(fault: str, victim: str) -> None:
    async with (
        lab.start("nats", members=3) as cluster,
        node_at(cluster, 0, 2) as first,
        node_at(cluster, 1, 2) as second,
        node_at(cluster, 2) as third,
    ):
        service, steady = Service(), Service()
        listening, calling = (first, second) if victim == "the listener's" else (second, first)
        listener = await listening.listen("nats:shop", service.handlers)
        channel = calling.connect(listener.address)
        # Nodes at the other members do not notice.
        unharmed = third.connect((await second.listen("nats:steady", steady.handlers)).address)
        await acknowledged(lambda: channel.request("echo", encoded("hello"), timeout_s=20))
        await acknowledged(lambda: unharmed.request("echo", encoded("hello"), timeout_s=20))
        kept = asyncio.create_task(unharmed.request("wait", encoded("kept"), timeout_s=60))
        held = asyncio.create_task(channel.request("wait", encoded("held"), timeout_s=60))
        traffic = Traffic(channel, service)
        async with traffic.under_way():
            await traffic.more(100)
            await steady.wait_running(1)
            await (cluster.kill(0) if fault == "kill" else cluster.pause(0))
            with pytest.raises(Unavailable) as lost:
                await held
            assert lost.value.outcome is Outcome.UNKNOWN
            await traffic.more(200)
            await (cluster.restart(0) if fault == "kill" else cluster.resume(0))
            await traffic.more(200)
        await service.wait_cancelled(1)
        traffic.check()
        steady.release.set()
        assert decoded(await kept) == "kept"
