"""A known truth: a NATS key-value bucket, read as its own client does, by Direct Get, may be stale."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats_kit import acknowledged, create, in_order, open_nats, plain

from coterie import lab


@pytest.mark.slow
async def test_direct_get_breaks_read_your_writes_and_the_engine_does_not() -> None:
    async with lab.start("nats", members=3, network="proxy") as cluster:
        async with plain(cluster.url) as client:
            js = client.jetstream()
            await acknowledged(lambda: js.create_key_value(bucket="bucket", replicas=3, direct=True))
            bucket = await js.key_value("bucket")
            await acknowledged(lambda: bucket.put("key", b"old"))
        leader = await cluster.leader(of="KV_bucket")
        behind = min({0, 1, 2} - {leader})
        here = in_order(cluster, leader)
        async with plain(here) as client, plain(f"nats://{cluster.addresses[behind]}") as far:
            bucket = await client.jetstream().key_value("bucket")
            await _until_read(far, b"old")
            # Nothing is broken by the engine's measure: the majority goes on, a client reads where it is.
            await cluster.partition({behind}, {0, 1, 2} - {behind})
            await acknowledged(lambda: bucket.put("key", b"new"))
            # It was acknowledged, and is read as if it had not been.
            await _until_read(far, b"old")
        # The same with the engine: its client at the member that is behind waits until it can be sure.
        async with open_nats(here) as engine, open_nats(in_order(cluster, behind)) as other:
            version = await engine.store.commit(create("key"))
            entry = await other.store.get("a/key")
            assert entry is not None
            assert entry.version == version


async def _until_read(client: Client, value: bytes) -> None:
    """Read as the key-value client does, by Direct Get from whichever replica, until it is `value`.

    Some requests go to members that are out of reach.
    """
    async with asyncio.timeout(30):
        while True:
            with suppress(NatsError):
                reply = await client.request("$JS.API.DIRECT.GET.KV_bucket.$KV.bucket.key", b"", timeout=0.3)
                if reply.data == value:
                    return
            await asyncio.sleep(0.01)
