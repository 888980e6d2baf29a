"""Who is let in, and which servers are taken: the URL, logins, TLS, and the settings behind the promises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from typing import Any

import pytest
from nats_kit import create, eventually, open_nats, plain

from coterie import lab
from coterie.engines.nats import NatsConfig
from coterie.errors import (
    CorruptData,
    InvalidConfiguration,
    NotFound,
    Outcome,
    Overloaded,
    PermissionDenied,
    TooLarge,
    Unavailable,
)
from coterie.ports.guarantees import Durability
from coterie.ports.log import Record
from coterie.ports.store import Commit, Put


async def refused(url: str, error: type[Exception], match: str, **options: Any) -> None:
    """Demand that opening `url` is refused, with no secret in what is said."""
    with pytest.raises(error, match=match) as raised:
        async with open_nats(url, **options):
            pass
    assert "secret" not in str(raised.value)


def monitors(cluster: lab.Cluster) -> str:
    network = cluster.engine.site.network
    return ",".join(f"http://{network.listening(member.name, 'http')}" for member in cluster.members)


async def test_login_and_tls_are_asked_for_by_the_url() -> None:
    async with lab.start("nats", user="ann", password="secret", tls=True) as cluster:
        made = cluster.certificates
        assert made is not None
        url = cluster.url.replace("nats://", "natss://")
        files = {"ca_file": made.ca, "cert_file": made.certificate, "key_file": made.key}
        async with open_nats(url, **{name: str(path) for name, path in files.items()}) as engine:
            await engine.store.commit(create("key"))
        files_text = {name: str(path) for name, path in files.items()}
        await refused(url.replace("secret", "wrong"), PermissionDenied, "does not let us in", **files_text)
        await refused(url.replace("ann:secret@", ""), PermissionDenied, "does not let us in", **files_text)
        await refused(url, Unavailable, "cannot be reached")
        await refused(url, InvalidConfiguration, "cannot be read", ca_file=f"{made.ca}.missing")


async def test_a_token_is_a_user_without_a_password() -> None:
    async with lab.start("nats", token="secret") as cluster:
        async with open_nats(cluster.url) as engine:
            await engine.store.commit(create("key"))
        await refused(cluster.url.replace("secret", "wrong"), PermissionDenied, "does not let us in")


async def test_a_wrong_address_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"nats://ann:secret@127.0.0.1:{free.getsockname()[1]}"
        await refused(url, Unavailable, "cannot be reached")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("nats://", "names no server"),
        ("nats://host:port", "is no server"),
        ("nats://host/path", "no URL of NATS"),
        ("nats://host?colour=red", "unknown option: colour"),
        ("nats://host?prefix=a.b", "prefix"),
        ("nats://host?replicas=2", "replicas"),
        ("nats://host?ca_file=x", "no use without TLS"),
        ("natss://host?cert_file=x", "belong together"),
    ],
)
def test_what_a_url_cannot_say_is_told(url: str, match: str) -> None:
    with pytest.raises(InvalidConfiguration, match=match):
        NatsConfig.from_url(url)


async def test_durability_is_promised_only_as_the_servers_sync() -> None:
    async with lab.start("nats") as cluster:
        async with open_nats(cluster.url) as engine:
            assert engine.store.guarantees.durability is Durability.PROCESS_CRASH
            assert any("sync_interval" in note for note in engine.store.guarantees.notes)
        async with open_nats(cluster.url, monitor=monitors(cluster)) as engine:
            assert engine.store.guarantees.durability is Durability.POWER_LOSS
            assert engine.log.guarantees.durability is Durability.POWER_LOSS
        await refused(cluster.url, Unavailable, "does not answer", monitor="http://127.0.0.1:1")
    async with lab.start("nats", settings={"jetstream.sync_interval": "2m"}) as cluster:
        await refused(cluster.url, InvalidConfiguration, "does not sync", monitor=monitors(cluster))


@pytest.mark.slow
async def test_three_members_outlive_the_loss_of_a_machine() -> None:
    async with lab.start("nats", members=3) as cluster:
        async with open_nats(cluster.url, monitor=monitors(cluster)) as engine:
            assert engine.store.guarantees.durability is Durability.MACHINE_LOSS
            assert engine.log.guarantees.durability is Durability.MACHINE_LOSS
        await cluster.kill(2)
        async with open_nats(cluster.engine_url) as engine:  # A node starts while a member is down.
            assert engine.store.guarantees.durability is Durability.MACHINE_LOSS
        await cluster.restart(2)
        # Half of those that are named is no majority.
        down = f"{monitors(cluster)},http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:3"
        await refused(cluster.url, Unavailable, "does not answer", monitor=down)
        # Promised is what the streams there are can keep.
        await refused(cluster.url, InvalidConfiguration, "num_replicas 3 in place of 1", replicas=1)
        await refused(cluster.url, InvalidConfiguration, "replicas", replicas=5, prefix="other")


@pytest.mark.slow
async def test_a_cluster_whose_members_do_not_know_each_other_yet_is_waited_for() -> None:
    async with lab.start("nats", members=3) as cluster:
        await cluster.kill(0, 1, 2)
        await cluster.restart(0, 1)
        # Nobody has heard of the third since: streams of three replicas cannot be placed.
        await refused(cluster.url, Unavailable, "no suitable peers", operation_timeout_s=0.5, prefix="early")
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(_open_and_write(cluster.url))
            await asyncio.sleep(0.5)
            assert not opening.done()
            await cluster.restart(2)


async def _open_and_write(url: str) -> None:
    async with open_nats(url) as engine:
        await engine.store.commit(create("key"))


@pytest.mark.parametrize(
    ("setting", "value"), [("allow_direct", True), ("max_msgs", 1000), ("duplicate_window", 10**9)]
)
async def test_a_stream_with_settings_that_break_promises_is_refused(setting: str, value: object) -> None:
    async with lab.start("nats") as cluster, plain(cluster.url) as client:
        async with open_nats(cluster.url):
            pass
        info = json.loads((await client.request("$JS.API.STREAM.INFO.coterie-store", timeout=5)).data)
        changed = json.dumps(info["config"] | {setting: value}).encode()
        reply = await client.request("$JS.API.STREAM.UPDATE.coterie-store", changed, timeout=5)
        assert "error" not in json.loads(reply.data)
        await refused(cluster.url, InvalidConfiguration, setting)


async def test_a_server_without_jetstream_is_refused() -> None:
    async with lab.start("nats") as cluster:
        # An account of its own has no JetStream.
        config = cluster.members[0].data.parent / "nats.conf"
        accounts = 'accounts: { bare: { users: [ { user: "bob", password: "secret" } ] } }\n'
        config.write_text(config.read_text() + accounts)
        await cluster.kill(0)
        await cluster.restart(0)
        url = cluster.url.replace("nats://", "nats://bob:secret@")
        await refused(url, InvalidConfiguration, "JetStream")


async def test_a_user_who_may_not_publish_is_told_so() -> None:
    async with lab.start("nats") as cluster:
        config = cluster.members[0].data.parent / "nats.conf"
        user = '{ user: "bob", password: "secret", permissions: { publish: { deny: ["$JS.API.>"] } } }'
        config.write_text(config.read_text() + f"authorization: {{ users: [ {user} ] }}\n")
        await cluster.kill(0)
        await cluster.restart(0)
        url = cluster.url.replace("nats://", "nats://bob:secret@")
        await refused(url, PermissionDenied, "ermissions")


async def test_bounds_are_kept_and_nothing_of_what_is_refused_is_applied() -> None:
    async with lab.start("nats") as cluster, open_nats(cluster.url, max_waiting=4) as engine:
        big = Commit(tuple(Put(f"big-{index}", b"x" * 400_000) for index in range(3)))
        with pytest.raises(TooLarge) as too_large:
            await engine.store.commit(big)
        assert too_large.value.outcome is Outcome.NOT_APPLIED
        calls = [engine.store.commit(create(f"{index}")) for index in range(10)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in ended] == [int] * 4 + [Overloaded] * 6
        assert [await engine.store.get(f"a/{index}") is not None for index in range(10)] == [True] * 4 + [
            False
        ] * 6
        await engine.log.create("topic", 1)
        with pytest.raises(TooLarge):
            await engine.log.append("topic", 0, [Record(b"x" * 400_000)] * 3)
        assert (await engine.log.read("topic", 0, 0)).records == ()


async def test_a_message_that_is_no_commit_stops_every_answer() -> None:
    async with lab.start("nats") as cluster, open_nats(cluster.url) as engine, plain(cluster.url) as client:
        await client.jetstream().publish("coterie-store.log", b"nonsense")
        with pytest.raises(CorruptData, match="holds what is no commit"):
            await engine.store.commit(create("key"))
        with pytest.raises(CorruptData):
            await engine.store.get("a/key")


async def test_a_login_that_fails_in_passing_ends_nothing() -> None:
    async with lab.start("nats", user="ann", password="secret") as cluster, open_nats(cluster.url) as engine:
        await engine.store.commit(create("before"))
        config = cluster.members[0].data.parent / "nats.conf"
        right = config.read_text()
        config.write_text(right.replace("secret", "other"))
        await cluster.kill(0)
        await cluster.restart(0)
        await eventually(lambda: "uthorization" in engine.link.trouble)
        config.write_text(right)
        await cluster.kill(0)
        await cluster.restart(0)
        await eventually(lambda: engine.link.client.is_connected)
        await engine.store.commit(create("after"))
        assert await engine.store.get("a/before") is not None


async def test_a_connection_that_a_server_ends_for_good_is_made_anew() -> None:
    async with (
        lab.start("nats") as cluster,
        open_nats(cluster.url) as engine,
        open_nats(cluster.url) as other,
    ):
        await engine.store.commit(create("before"))
        clients = engine.link.client, other.link.client
        config, pid = cluster.members[0].data.parent / "nats.conf", cluster.members[0].pid
        assert pid is not None
        right = config.read_text()
        config.write_text(right + "max_connections: 1\n")
        os.kill(pid, signal.SIGHUP)
        # One of them is told to go, upon which the client library gives up.
        await eventually(lambda: any(client.is_closed for client in clients))
        config.write_text(right)
        os.kill(pid, signal.SIGHUP)
        await eventually(lambda: engine.link.client.is_connected and other.link.client.is_connected)
        for store in (engine.store, other.store):
            assert await store.get("a/before") is not None


async def test_a_topic_made_anew_ends_those_who_waited_for_the_old() -> None:
    async with (
        lab.start("nats") as cluster,
        open_nats(cluster.url) as engine,
        open_nats(cluster.url) as other,
    ):
        await engine.log.create("topic", 1)
        waiting = asyncio.create_task(engine.log.wait("topic", 0, 0))
        await asyncio.sleep(0.05)
        await other.log.delete("topic")
        await other.log.create("topic", 1)
        with pytest.raises(NotFound):
            await asyncio.wait_for(waiting, 20)
