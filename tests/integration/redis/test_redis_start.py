"""Who is let in, and which servers are taken: the URL, logins, TLS, and the settings behind the promises."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from redis_kit import open_redis, raw

from coterie import App, lab
from coterie.engines.redis import RedisConfig, open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import (
    InvalidConfiguration,
    Outcome,
    Overloaded,
    PermissionDenied,
    Unavailable,
    Unsupported,
)
from coterie.node import Node, NodeConfig
from coterie.ports.guarantees import Durability
from coterie.ports.store import Commit, Put


async def refusal_of(url: str, error: type[Exception]) -> str:
    """Return the message with which opening `url` is refused."""
    with pytest.raises(error) as refused:
        await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://a:1,b:2/0", "several servers"),
        ("redis://host:six/0", "proper port"),
        ("redis://host/zero", "proper port or database"),
        ("redis:///0", "no host"),
        ("redis://host/0?prefx=shop", "unknown option: prefx"),
        ("redis://host/0?prefix=%7Bshop%7D", "without braces"),
        ("redis://host/0#part", "no URL of Redis"),
        ("redis://host/0?ca_file=ca.pem", "without TLS"),
        ("rediss://host/0?cert_file=c.pem", "belong together"),
        ("rediss://host/0?ca_file=/nowhere/ca.pem", "cannot be read"),
    ],
)
async def test_a_wrong_url_is_told_what_is_wrong(url: str, message: str) -> None:
    assert message in await refusal_of(url, InvalidConfiguration)


def test_a_url_names_everything() -> None:
    config = RedisConfig.from_url("valkeys://ann:p%40ss@example.org:7000/3?prefix=shop&ca_file=ca.pem")
    assert (config.host, config.port, config.database, config.tls) == ("example.org", 7000, 3, True)
    assert (config.user, config.password, config.prefix) == ("ann", "p@ss", "shop")


async def test_a_password_is_in_no_message() -> None:
    text = await refusal_of("redis://ann:secret@host:six/0", InvalidConfiguration)
    assert "secret" not in text
    assert "secret" not in repr(RedisConfig.from_url("redis://ann:secret@host/0"))


async def test_no_server_is_unavailable() -> None:
    assert "127.0.0.1:1 cannot be reached" in await refusal_of("redis://127.0.0.1:1/0", Unavailable)


async def test_logins_and_rights() -> None:
    async with lab.start("valkey", user="ann", password="sec ret") as cluster:
        async with open_redis(cluster.url) as client:
            await client.store.commit(Commit((Put("key", b""),)))
        bare = f"redis://{cluster.addresses[0]}/0"
        await refusal_of(bare, PermissionDenied)
        await refusal_of(bare.replace("//", "//ann:wrong@"), PermissionDenied)
        # A right that is missing is found before anything is half written.
        await raw(cluster, "ACL", "SETUSER", "bob", "on", ">b", "~*", "&*", "+@all", "-xadd")
        assert "xadd" in await refusal_of(bare.replace("//", "//bob:b@"), PermissionDenied)
        await raw(cluster, "ACL", "SETUSER", "cid", "on", ">c", "~{coterie}:*", "+@all", "-config")
        async with open_redis(bare.replace("//", "//cid:c@")) as client:
            assert client.store.guarantees.durability is Durability.NONE
            assert any("CONFIG GET is forbidden" in note for note in client.store.guarantees.notes)
            await client.store.commit(Commit((Put("key", b""),)))


async def test_tls() -> None:
    async with lab.start("redis", tls=True) as cluster:
        made = cluster.certificates
        assert made is not None
        url = f"rediss://{cluster.addresses[0]}/0?ca_file={made.ca}&cert_file={made.certificate}&key_file={made.key}"
        async with open_redis(url) as client, open_redis(url) as other:
            await client.store.commit(Commit((Put("key", b"x" * 100_000),)))
            assert await other.store.get("key") == await client.store.get("key")
        await refusal_of(f"rediss://{cluster.addresses[0]}/0", Unavailable)  # nobody vouches for the server
        await refusal_of(f"redis://{cluster.addresses[0]}/0", Unavailable)


@pytest.mark.parametrize(
    ("settings", "durability", "note"),
    [
        ({}, Durability.POWER_LOSS, "One primary"),
        ({"appendfsync": "everysec"}, Durability.NONE, "everysec"),
        ({"appendfsync": "no"}, Durability.PROCESS_CRASH, "a power loss takes"),
        ({"no-appendfsync-on-rewrite": "yes"}, Durability.PROCESS_CRASH, "a rewrite stops"),
        ({"appendonly": "no"}, Durability.NONE, "appendonly is off"),
    ],
)
async def test_the_durability_is_what_the_settings_give(
    settings: dict[str, str], durability: Durability, note: str
) -> None:
    async with lab.start("valkey", settings=settings) as cluster, open_redis(cluster.url) as client:
        for guarantees in (client.store.guarantees, client.log.guarantees):
            assert guarantees.durability is durability
            assert any(note in each for each in guarantees.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "may evict acknowledged entries"),
        ({"cluster-enabled": "yes"}, "part of a Redis Cluster"),
    ],
)
async def test_servers_that_cannot_keep_the_contract_are_refused(
    settings: dict[str, str], message: str
) -> None:
    async with lab.start("valkey", settings=settings) as cluster:
        assert message in await refusal_of(cluster.url, InvalidConfiguration)


async def test_a_full_server_refuses_whole_commits() -> None:
    async with (
        lab.start("valkey", settings={"maxmemory": "8mb"}) as cluster,
        open_redis(cluster.url) as client,
    ):

        def write(index: int) -> Coroutine[Any, Any, int]:
            return client.store.commit(Commit((Put(f"a{index}", b"x" * 100_000), Put(f"b{index}", b""))))

        index = 0
        with suppress(Overloaded):
            for index in range(200):
                await write(index)
        with pytest.raises(Overloaded) as refused:
            await write(index)
        assert refused.value.outcome is Outcome.NOT_APPLIED
        assert [await client.store.get(f"{side}{index}") for side in "ab"] == [None, None]
        await client.store.commit(Commit((), tuple(f"a{each}" for each in range(index))))


async def test_an_app_that_declares_more_than_the_server_keeps_does_not_start() -> None:
    app = App("bank")
    app.map("ledger", int, durability=Durability.POWER_LOSS)
    for settings in ({"appendfsync": "everysec"}, {"appendonly": "no"}, {"appendfsync": "always"}):
        async with lab.start("valkey", settings=settings) as cluster:
            node = Node(app, NodeConfig(engine=cluster.url, http="off"))
            if "always" in settings.values():
                await node.start()
            else:
                with pytest.raises(Unsupported) as refused:
                    await node.start()
                text = str(refused.value)
                assert "the map 'ledger' of the app 'bank' needs writes that outlive power loss" in text
                assert "'redis' outlive only none" in text
                assert "engines that give it: sqlite, nats" in text
            await node.close()
