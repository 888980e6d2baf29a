"""Valkey and Redis in the lab, seen through redis-py."""

from __future__ import annotations

from typing import Any

import pytest
from lab_clients import eventually
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, RedisError

from coterie import lab
from coterie.lab import Cluster, LabError, NetworkKind


def connected(cluster: Cluster, member: int, **login: Any) -> Redis:
    how: dict[str, Any] = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0, "decode_responses": True}
    if (made := cluster.certificates) is not None:
        how |= {"ssl": True, "ssl_ca_certs": str(made.ca), "ssl_certfile": str(made.certificate)}
        how |= {"ssl_keyfile": str(made.key)}
    address = cluster.addresses[member]
    return Redis(host=address.host, port=address.port, **how, **login)


async def has(cluster: Cluster, member: int, wanted: dict[str, str | None], **login: Any) -> None:
    async with connected(cluster, member, **login) as redis:
        found = {key: await redis.get(key) for key in wanted}
    if found != wanted:
        raise LookupError(found)


@pytest.mark.parametrize("engine", ["valkey", "redis"])
async def test_one_member_keeps_what_it_acknowledged_when_it_is_killed(engine: str) -> None:
    async with lab.start(engine) as cluster:
        async with connected(cluster, 0) as redis:
            await redis.set("a", "1")
            assert (await redis.config_get("appendfsync"))["appendfsync"] == "always"
        await cluster.kill(0)
        await cluster.restart(0)
        await has(cluster, 0, {"a": "1"})
        assert await cluster.leader() == 0


async def test_a_replica_is_promoted_by_hand_and_the_others_follow(network: NetworkKind) -> None:
    async with lab.start("valkey", members=3, network=network) as cluster:
        async with connected(cluster, 0) as redis:
            await redis.set("a", "1")
        await eventually(lambda: has(cluster, 1, {"a": "1"}))
        # Replication is asynchronous: a primary that is cut off acknowledges what a promotion loses.
        await cluster.partition({0}, {1, 2})
        async with connected(cluster, 0) as redis:
            await redis.set("b", "lost")
        await cluster.pause(0)
        with pytest.raises(LabError, match=r"promote a replica with cluster\.promote"):
            await cluster.leader(within_s=0.3)
        await cluster.promote(1)
        assert await cluster.leader() == 1
        async with connected(cluster, 1) as redis:
            await redis.set("c", "3")
        wanted = {"a": "1", "b": None, "c": "3"}
        await eventually(lambda: has(cluster, 2, wanted))
        await cluster.heal()
        await cluster.restart(0)
        await eventually(lambda: has(cluster, 0, wanted))
        async with connected(cluster, 0) as redis:
            with pytest.raises(ReadOnlyError):
                await redis.set("d", "4")


async def test_passwords_are_demanded_and_settings_go_before_the_labs() -> None:
    login = {"username": "ann", "password": 'a "quoted" \\secret'}
    settings = {"appendfsync": "everysec"}
    async with lab.start(
        "valkey", members=3, user=login["username"], password=login["password"], settings=settings
    ) as cluster:
        async with connected(cluster, 0) as redis:
            with pytest.raises(RedisError):
                await redis.get("a")
        async with connected(cluster, 0, **login) as redis:
            await redis.set("a", "1")
            assert (await redis.config_get("appendfsync"))["appendfsync"] == "everysec"
        await eventually(lambda: has(cluster, 2, {"a": "1"}, **login))


async def test_certificates_are_demanded() -> None:
    async with lab.start("redis", members=3, tls=True) as cluster:
        async with connected(cluster, 0) as redis:
            await redis.set("a", "1")
        await eventually(lambda: has(cluster, 2, {"a": "1"}))
        address = cluster.addresses[0]
        async with Redis(host=address.host, port=address.port, socket_timeout=2.0) as plain:
            with pytest.raises(RedisError):
                await plain.get("a")
