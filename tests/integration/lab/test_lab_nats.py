"""NATS in the lab, seen through nats-py."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from lab_clients import eventually
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from coterie import lab
from coterie.engines.nats.client import EndableClient
from coterie.lab import Cluster, NetworkKind


@asynccontextmanager
async def connected(
    cluster: Cluster, *members: int, **options: Any
) -> AsyncIterator[tuple[Client, JetStreamContext]]:
    async def ignore(_: Exception) -> None: ...

    servers = [f"nats://{cluster.addresses[member]}" for member in members or range(len(cluster.addresses))]
    how: dict[str, Any] = {"reconnect_time_wait": 0.1, "max_reconnect_attempts": -1, "error_cb": ignore}
    # A member that is cut off is silent: only pings tell.
    how |= {"ping_interval": 1, "max_outstanding_pings": 1}
    client = EndableClient()
    await client.connect(servers, **{**how, **options})
    try:
        yield client, client.jetstream(timeout=2.0)
    finally:
        await client.end()


async def publish(stream: JetStreamContext, text: str) -> None:
    # With an id, since a repeated publish may have been applied the first time.
    await stream.publish("events", text.encode(), headers={"Nats-Msg-Id": text})


async def add_stream(stream: JetStreamContext) -> None:
    # A leader that has just begun may not have heard of every member yet.
    await eventually(lambda: stream.add_stream(name="EVENTS", subjects=["events"], num_replicas=3))


async def test_one_member_keeps_what_it_acknowledged_when_it_is_killed() -> None:
    async with lab.start("nats") as cluster, connected(cluster) as (_, stream):
        await stream.add_stream(name="EVENTS", subjects=["events"])
        await stream.publish("events", b"one")
        await cluster.kill(0)
        await cluster.restart(0)
        await eventually(lambda: publish(stream, "two"))
        assert [(await stream.get_msg("EVENTS", number)).data for number in (1, 2)] == [b"one", b"two"]
        assert await cluster.leader() == 0


@pytest.mark.slow
async def test_three_members_outlive_their_leader_and_a_pause_of_the_next() -> None:
    async with lab.start("nats", members=3) as cluster, connected(cluster) as (_, stream):
        await add_stream(stream)
        await eventually(lambda: publish(stream, "one"))
        first = await cluster.leader()
        await cluster.kill(first)
        second = await cluster.leader()
        assert second != first
        await eventually(lambda: publish(stream, "two"))
        await cluster.restart(first)
        await cluster.pause(second)
        assert await cluster.leader() != second
        await eventually(lambda: publish(stream, "three"))
        await cluster.resume(second)
        assert (await eventually(lambda: stream.get_msg("EVENTS", 3))).data == b"three"


@pytest.mark.slow
async def test_a_minority_elects_no_leader_and_follows_after_the_heal(network: NetworkKind) -> None:
    async with lab.start("nats", members=3, network=network) as cluster, connected(cluster) as (_, stream):
        await add_stream(stream)
        old = await cluster.leader()
        others = {0, 1, 2} - {old}
        await cluster.partition({old}, others, {*others, "client"})
        assert await cluster.leader() != old
        await eventually(lambda: publish(stream, "kept"))
        await cluster.heal()
        await cluster.wait_ready()
        assert (await eventually(lambda: stream.get_msg("EVENTS", 1))).data == b"kept"


async def test_ready_members_know_of_each_others_subscriptions() -> None:
    async with lab.start("nats", members=3, network="proxy") as cluster:
        # A third member never passes on what it hears from another.
        await cluster.cut(0, 1)
        await cluster.reset(0, 1)
        async with connected(cluster, 0) as (here, _), connected(cluster, 1) as (there, _):

            async def answer(message: Msg) -> None:
                await message.respond(b"heard")

            await here.subscribe("question", cb=answer)
            await here.flush()
            with pytest.raises(NatsError):
                await there.request("question", timeout=0.5)
            await cluster.heal()
            await cluster.wait_ready()
            # Without a route it is a second until they try again.
            reply = await eventually(lambda: there.request("question", timeout=0.2), within_s=0.5)
            assert reply.data == b"heard"


async def test_the_leader_of_a_stream_is_found() -> None:
    async with lab.start("nats", members=3) as cluster, connected(cluster) as (_, stream):
        await add_stream(stream)
        said = (await stream.stream_info("EVENTS")).cluster
        assert said is not None
        assert await cluster.leader(of="EVENTS") == int(str(said.leader).removeprefix("nats-"))


async def test_a_password_a_token_and_certificates_are_demanded() -> None:
    async with lab.start("nats", user="ann", password="p w:1") as cluster:
        with pytest.raises(NatsError):
            async with connected(cluster, allow_reconnect=False, max_reconnect_attempts=0):
                pass
        async with connected(cluster, user="ann", password="p w:1") as (client, _):
            assert client.is_connected
    async with lab.start("nats", token="sesame", tls=True) as cluster:
        assert cluster.certificates is not None
        context = cluster.certificates.client_context()
        assert context.verify_mode == ssl.CERT_REQUIRED
        async with connected(cluster, token="sesame", tls=context) as (client, _):
            assert client.is_connected


async def test_the_settings_are_safe_unless_said_otherwise() -> None:
    async with lab.start(
        "nats", settings={"jetstream.sync_interval": "2m", "max_payload": "2048"}
    ) as cluster:
        text = (cluster.members[0].data.parent / "nats.conf").read_text()
        assert 'sync_interval: "2m"' in text
        async with connected(cluster) as (client, _):
            assert client.max_payload == 2048
