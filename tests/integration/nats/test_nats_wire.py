"""What the wire on NATS does when servers, messages or peers are lost. `tests/conformance` has the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats_kit import eventually, plain

from coterie import lab
from coterie.conformance.wire.fixture import Service, decoded, encoded
from coterie.engines.nats import NatsConfig
from coterie.engines.nats._wire_messages import (
    VERSION,
    Bye,
    Call,
    Datagram,
    Hello,
    Message,
    Part,
    Refused,
    Reply,
    Welcome,
    decode,
    encode,
)
from coterie.engines.nats.wire import NatsWire, WireLimits
from coterie.engines.system import SystemEntropy
from coterie.errors import InvalidConfiguration, Outcome, PermissionDenied, Unavailable
from coterie.ports.wire import Channel

SPACE = "coterie.wire"
QUICK = WireLimits(keepalive_s=0.05, silence_s=0.3)


@asynccontextmanager
async def open_wire(url: str, limits: WireLimits | None = None) -> AsyncIterator[NatsWire]:
    wire = await NatsWire.open(NatsConfig.from_url(url), SystemEntropy(), limits=limits)
    try:
        yield wire
    finally:
        await wire.close()


class Stranger:
    """A session's calling end, word by word."""

    def __init__(self, client: Client, inbox: Subscription) -> None:
        self.client = client
        self.inbox = inbox
        self.to = ""
        self.sent = 0

    @classmethod
    async def greet(cls, client: Client, address: str, version: int = VERSION) -> Stranger:
        stranger = cls(client, await client.subscribe(f"{SPACE}.to.stranger.1"))
        stranger.to = f"{SPACE}.at.{address.removeprefix('nats:')}"
        await stranger.say(Hello(version, "a stranger"))
        return stranger

    async def say(self, *messages: Message, skip: int = 0) -> None:
        first = self.sent + skip + 1
        self.sent = first + len(messages) - 1
        await self.client.publish(self.to, encode((first, 0, messages)), f"{self.inbox.subject}.{first}")

    async def hear(self, kind: type[Message]) -> Message:
        """Return the next message of that kind."""
        while True:
            answer = await self.inbox.next_msg(timeout=20)
            if answer.reply:
                self.to = answer.reply.rpartition(".")[0]
            for message in decode(answer.data).messages:
                if isinstance(message, kind):
                    return message


def call(id_: int, target: str, value: object, credit: int | None = None) -> Call:
    return Call(id_, target, 0, msgspec.Raw(encoded(value)), None, credit)


async def settle(client: Client) -> None:
    """Return when the server has taken all that the client said. The client's `flush` overtakes it."""
    inbox = await client.subscribe(client.new_inbox())
    await client.publish(inbox.subject)
    await inbox.next_msg(timeout=20)


async def echo(channel: Channel, value: object) -> object:
    return decoded(await channel.request("echo", encoded(value), timeout_s=20))


async def test_calls_are_lost_with_the_servers_and_go_on_when_they_are_back() -> None:
    async with lab.start("nats") as cluster, open_wire(cluster.url) as one, open_wire(cluster.url) as two:
        service = Service()
        listener = await one.listen("nats:shop", service.handlers)
        channel = two.connect(listener.address)
        held = asyncio.create_task(channel.request("wait", encoded(1), timeout_s=60))
        await service.wait_running(1)
        await cluster.kill(0)
        with pytest.raises(Unavailable) as lost:
            await held
        assert lost.value.outcome is Outcome.UNKNOWN
        await service.wait_cancelled(1)
        with pytest.raises(Unavailable) as refused:
            await echo(channel, "meanwhile")
        assert refused.value.outcome is Outcome.NOT_APPLIED
        await cluster.restart(0)

        async with asyncio.timeout(30):
            while True:
                try:
                    assert await echo(channel, "later") == "later"
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
        assert service.seen["meanwhile"] == 0


async def test_what_nobody_took_is_not_applied() -> None:
    """A listener that is gone without a word: the server knows, and says what did not arrive."""
    async with lab.start("nats") as cluster, open_wire(cluster.url) as wire, plain(cluster.url) as client:
        names = await client.subscribe(f"{SPACE}.at.gone")
        session = await client.subscribe(f"{SPACE}.to.gone.1")
        await settle(client)
        channel = wire.connect("nats:gone")
        first = asyncio.create_task(echo(channel, "first"))
        hello = await names.next_msg(timeout=20)
        caller = hello.reply.rpartition(".")[0]
        await client.publish(caller, encode((1, 0, [Welcome(VERSION)])), f"{session.subject}.1")
        await session.next_msg(timeout=20)
        await session.unsubscribe()
        await settle(client)
        with pytest.raises(Unavailable) as second:
            await echo(channel, "second")
        assert second.value.outcome is Outcome.NOT_APPLIED
        with pytest.raises(Unavailable) as taken:
            await first
        assert taken.value.outcome is Outcome.UNKNOWN


async def test_who_calls_while_a_listener_leaves_is_told_so() -> None:
    async with (
        lab.start("nats") as cluster,
        open_wire(cluster.url) as one,
        open_wire(cluster.url, WireLimits(connect_timeout_s=60, keepalive_s=50, silence_s=60)) as two,
    ):
        for turns in range(30):
            listener = await one.listen("nats:0", Service().handlers)
            held = asyncio.create_task(
                two.connect(listener.address).request("wait", encoded(turns), timeout_s=5)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            await listener.close()
            with pytest.raises(Unavailable, match=r"draining|closed|nobody"):
                await held


async def test_a_gap_ends_the_session_and_nothing_behind_it_is_done() -> None:
    async with lab.start("nats") as cluster, open_wire(cluster.url) as wire, plain(cluster.url) as client:
        service = Service()
        listener = await wire.listen("nats:0", service.handlers)
        stranger = await Stranger.greet(client, listener.address)
        await stranger.hear(Welcome)
        await stranger.say(call(1, "wait", "before"))
        await service.wait_running(1)
        await stranger.say(call(2, "wait", "behind"), skip=1)
        bye = await stranger.hear(Bye)
        assert isinstance(bye, Bye)
        assert "lost on the way" in bye.message
        assert bye.taken == 2
        await service.wait_cancelled(1)
        assert service.seen["behind"] == 0


async def test_a_caller_that_falls_silent_is_forgotten() -> None:
    async with lab.start("nats") as cluster, open_wire(cluster.url, QUICK) as wire:
        service = Service()
        listener = await wire.listen("nats:0", service.handlers)
        async with plain(cluster.url) as client:
            stranger = await Stranger.greet(client, listener.address)
            await stranger.hear(Welcome)
            await stranger.say(call(1, "wait", "x"))
            await service.wait_running(1)
            await service.wait_cancelled(1)
        assert listener.pending == 0
        assert not listener.sessions
        # Two ends that have nothing to say stay together all the same.
        async with open_wire(cluster.url, QUICK) as other:
            channel = other.connect(listener.address)
            held = asyncio.create_task(channel.request("wait", encoded("y"), timeout_s=20))
            await service.wait_running(1)
            await asyncio.sleep(3 * QUICK.silence_s)
            service.release.set()
            assert decoded(await held) == "y"


@pytest.mark.parametrize("target", ["large", "grow"])
async def test_no_more_than_the_window_is_under_way_to_who_receives_nothing(target: str) -> None:
    window = 4 * 1024 * 1024
    async with lab.start("nats") as cluster, open_wire(cluster.url) as wire, plain(cluster.url) as client:
        service = Service()
        listener = await wire.listen("nats:0", service.handlers)
        stranger = await Stranger.greet(client, listener.address)
        await stranger.hear(Welcome)
        for id_ in range(1, 21):  # It never says that it has received anything.
            stream = target == "large"  # of 8 MB, or one reply of 1 MB
            await stranger.say(call(id_, target, 0 if stream else 1_000_000, 64 if stream else None))
        received = 0
        while received < window - 1_100_000:
            received += len((await stranger.inbox.next_msg(timeout=20)).data)
        await asyncio.sleep(0.2)
        while stranger.inbox.pending_msgs:
            received += len((await stranger.inbox.next_msg(timeout=20)).data)
        assert received < window + 2_000_000, received
        [session] = listener.sessions
        assert session.congested
        assert session.waiting_bytes < window + 20 * 1_100_000


async def test_what_a_listener_does_not_take() -> None:
    limits = WireLimits(max_sessions=1, max_in_flight=1)
    async with lab.start("nats") as cluster, open_wire(cluster.url, limits) as wire:
        service = Service()
        listener = await wire.listen("nats:0", service.handlers)
        async with plain(cluster.url) as client:
            stranger = await Stranger.greet(client, listener.address, version=VERSION + 1)
            bye = await stranger.hear(Bye)
            assert isinstance(bye, Bye)
            assert "version" in bye.message
        async with plain(cluster.url) as client:
            stranger = await Stranger.greet(client, listener.address)
            await stranger.hear(Welcome)
            await stranger.say(Datagram(encoded("d")), call(1, "wait", 1), call(2, "wait", 2))
            refused = await stranger.hear(Refused)
            assert isinstance(refused, Refused)
            assert (refused.id, refused.code) == (2, "overloaded")
            assert service.datagrams == [("d", "a stranger")]
            async with open_wire(cluster.url) as other:
                with pytest.raises(Exception, match="sessions, the most it may") as full:
                    await echo(other.connect(listener.address), 1)
            assert full.value.outcome is Outcome.NOT_APPLIED  # type: ignore[attr-defined]
            await stranger.say(call(1, "wait", "again"))
            bye = await stranger.hear(Bye)
            assert isinstance(bye, Bye)
            assert "under way already" in bye.message
        await eventually(lambda: not listener.sessions)


async def test_who_may_not_and_what_cannot() -> None:
    async with lab.start("nats", user="ann", password="secret") as cluster:
        async with open_wire(cluster.url) as wire:
            assert wire.guarantees.authenticated
            for address in ("127.0.0.1:0", "nats:", "nats:a.b", "nats:*", f"nats:{'x' * 65}"):
                with pytest.raises(InvalidConfiguration, match="nats:NAME"):
                    wire.connect(address)
        with pytest.raises(PermissionDenied):
            async with open_wire(cluster.url.replace("secret", "wrong")):
                pass
    for wrong in ({"keepalive_s": 9.0}, {"window_bytes": 1}, {"max_sessions": 0}, {"connect_timeout_s": 0.0}):
        with pytest.raises(InvalidConfiguration):
            WireLimits(**wrong)


async def large(channel: Channel, size: int) -> None:
    """Send and get a body of this size."""
    body = bytes(range(256)) * (size // 256)
    assert decoded(await channel.request("echo", encoded(body), timeout_s=20)) == body


async def test_bodies_are_as_large_as_on_any_wire_whatever_the_servers_take() -> None:
    settings = {"max_payload": "20000"}
    async with (
        lab.start("nats", settings=settings) as cluster,
        open_wire(cluster.url) as one,
        open_wire(cluster.url) as two,
    ):
        assert one.guarantees.max_body_bytes == 16 * 1024 * 1024
        service = Service()
        listener = await one.listen("nats:0", service.handlers)
        channel = two.connect(listener.address)
        await asyncio.gather(*(large(channel, size) for size in (0, 19_968, 20_224, 3_000_000, 300)))
        items = [decoded(item) async for item in channel.stream("large", encoded(0), timeout_s=20)]
        assert items == [bytes([index]) * 1_000_000 for index in range(8)]
    async with lab.start("nats", settings={"max_payload": "1000"}) as cluster:
        with pytest.raises(InvalidConfiguration, match="messages of up to 1000 bytes only") as refused:
            async with open_wire(cluster.url):
                pass
        assert "16384 or more" in str(refused.value.hint)


def halves(message: Message) -> tuple[Part, Part]:
    frame = memoryview(encode(message))
    middle = len(frame) // 2
    return Part(len(frame) - middle, frame[:middle]), Part(0, frame[middle:])


async def test_a_body_that_is_not_whole_reaches_no_handler() -> None:
    async with (
        lab.start("nats") as cluster,
        open_wire(cluster.url, QUICK) as wire,
        plain(cluster.url) as client,
    ):
        service = Service()
        listener = await wire.listen("nats:0", service.handlers)
        first, last = halves(call(1, "echo", "in parts"))
        stranger = await Stranger.greet(client, listener.address)
        await stranger.hear(Welcome)
        await stranger.say(first)
        await stranger.say(last, skip=1)
        bye = await stranger.hear(Bye)
        assert isinstance(bye, Bye)
        assert (bye.code, bye.taken) == ("unavailable", 2)
        assert "lost on the way" in bye.message

        # One that gives signs of life, and not the rest.
        slow = await Stranger.greet(client, listener.address)
        await slow.hear(Welcome)
        await slow.say(first)
        await eventually(lambda: any(each.incoming.partial for each in listener.sessions))
        [session] = listener.sessions
        while session.open:
            await slow.say()
            await asyncio.sleep(QUICK.keepalive_s)
        bye = await slow.hear(Bye)
        assert isinstance(bye, Bye)
        assert "the rest of a message did not come" in bye.message
        assert not session.incoming.held_bytes
        assert not service.seen

        # One that gives it.
        good = await Stranger.greet(client, listener.address)
        await good.hear(Welcome)
        await good.say(first)
        await good.say(last)
        await good.hear(Reply)
        assert service.seen["in parts"] == 1


async def test_a_call_of_which_the_last_part_was_not_taken_is_not_applied() -> None:
    async with lab.start("nats") as cluster, open_wire(cluster.url) as wire, plain(cluster.url) as client:
        names = await client.subscribe(f"{SPACE}.at.shop")
        session = await client.subscribe(f"{SPACE}.to.shop.1")
        await settle(client)
        channel = wire.connect("nats:shop")
        small = asyncio.create_task(echo(channel, "small"))
        hello = await names.next_msg(timeout=20)
        caller = hello.reply.rpartition(".")[0]
        await client.publish(caller, encode((1, 0, [Welcome(VERSION)])), f"{session.subject}.1")
        [said] = decode((await session.next_msg(timeout=20)).data).messages
        assert isinstance(said, Call)
        big = asyncio.create_task(large(channel, 3_000_000))
        batch = decode((await session.next_msg(timeout=20)).data)
        [part] = batch.messages
        assert isinstance(part, Part)
        assert part.rest > 0
        # A node that ends says how much it has taken.
        await client.publish(caller, encode((0, 0, [Bye("unavailable", "the end", batch.first)])), "")
        with pytest.raises(Unavailable) as lost:
            await big
        assert lost.value.outcome is Outcome.NOT_APPLIED
        with pytest.raises(Unavailable) as taken:
            await small
        assert taken.value.outcome is Outcome.UNKNOWN


async def test_time_passes_while_the_parts_of_a_call_come() -> None:
    async with lab.start("nats") as cluster, open_wire(cluster.url) as wire, plain(cluster.url) as client:
        service = Service()
        listener = await wire.listen("nats:0", service.handlers)
        stranger = await Stranger.greet(client, listener.address)
        await stranger.hear(Welcome)
        first, last = halves(Call(1, "echo", 1, msgspec.Raw(encoded("late"))))
        await stranger.say(first)
        await eventually(lambda: any(each.incoming.partial for each in listener.sessions))
        await asyncio.sleep(0.002)
        await stranger.say(last)
        refused = await stranger.hear(Refused)
        assert isinstance(refused, Refused)
        assert refused.code == "deadline_exceeded"
        assert not service.seen
