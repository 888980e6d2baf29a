"""Who may come in, what may be written, and what becomes of a watch whose past was compacted."""

from __future__ import annotations

import asyncio
import socket

import pytest
from etcd_tools import create, engine_at

from coterie import lab
from coterie.engines.etcd.proto import number
from coterie.errors import Fenced, InvalidConfiguration, Outcome, PermissionDenied, TooLarge, Unavailable
from coterie.ports import Durability
from coterie.ports.store import Commit, Fence, Put


async def refused(url: str, error: type[Exception], match: str | None = None) -> None:
    with pytest.raises(error, match=match) as raised:
        async with engine_at(url):
            pass
    assert "secret" not in str(raised.value)


async def test_login_and_tls_are_asked_for_by_the_url() -> None:
    async with lab.start("etcd", user="ann", password="secret", tls=True) as cluster:
        made = cluster.certificates
        assert made is not None
        files = f"ca_file={made.ca}&cert_file={made.certificate}&key_file={made.key}"
        async with engine_at(f"{cluster.url}?{files}") as engine:
            assert engine.store.guarantees.durability is Durability.POWER_LOSS
            revision = await engine.store.commit(create("key"))
            async with engine.store.watch("") as watch:
                assert (await anext(watch)).revision == revision
                # A token that the members do not know, as after their restart, is replaced.
                engine.client._token = "nonsense"
                await engine.store.commit(create("other"))
                assert (await anext(watch)).changes[0].key == "other"
        await refused(f"{cluster.url.replace('secret', 'wrong')}?{files}", PermissionDenied, "authentication")
        await refused(
            f"{cluster.url.replace('ann:secret@', '')}?{files}",
            PermissionDenied,
            "permission denied|user name",
        )
        await refused(cluster.url, Unavailable)
        await refused(f"{cluster.url}?ca_file={made.ca}.missing", InvalidConfiguration, "cannot be read")


async def test_a_wrong_address_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        await refused(
            f"etcd://ann:secret@127.0.0.1:{free.getsockname()[1]}", Unavailable, "failed to connect"
        )
    for url in ("etcd://", "etcd://host/path", "etcd://host?colour=red", "etcd://host?prefix=/x"):
        await refused(url, InvalidConfiguration)


async def test_limits_fences_and_compaction() -> None:
    async with (
        lab.start("etcd") as cluster,
        engine_at(cluster.url) as engine,
        engine_at(cluster.url) as other,
    ):
        store = engine.store
        big = Commit(tuple(Put(f"big-{index}", b"x" * 1_000_000) for index in range(3)))
        with pytest.raises(TooLarge) as raised:
            await store.commit(big)
        assert raised.value.outcome is Outcome.NOT_APPLIED
        # Each process knows the fence as it saw it last, and learns that the other moved it.
        for token, client in ((1, store), (2, other.store), (2, store), (3, store), (3, other.store)):
            await client.commit(Commit((Put("key", b""),), fences=(Fence("lock", token),)))
        for client in (store, other.store):
            with pytest.raises(Fenced):
                await client.commit(Commit((Put("key", b"old"),), fences=(Fence("lock", 2),)))
        async with store.watch("") as watch:
            await anext(watch)
            # Cut the stream off while the past up to the newest revision is compacted.
            watch._pump.cancel()
            await asyncio.wait([watch._pump])
            watch._pump = None
            revision = await other.store.commit(create("missed"))
            await other.store.commit(create("newest"))
            await engine.client.call("/etcdserverpb.KV/Compact", number(1, revision + 1))
            batch = await anext(watch)
            assert batch.snapshot
            assert [change.key for change in batch.changes] == ["key", "missed", "newest"]


@pytest.mark.slow
async def test_a_member_that_is_cut_off_is_left_for_one_that_has_a_leader() -> None:
    async with lab.start("etcd", members=3, network="proxy") as cluster:
        old = await cluster.leader()
        rest = {0, 1, 2} - {old}
        order = ",".join(str(cluster.addresses[index]) for index in (old, *rest))
        async with engine_at(f"etcd://{order}") as engine:
            engine.client._current = 0
            await engine.store.commit(create("before"))
            async with engine.store.watch("") as watch:
                await anext(watch)
                await cluster.partition({old}, rest)
                await cluster.leader()
                entry = await engine.store.get("before")  # Of the majority: the old leader cannot say.
                assert entry is not None
                after = await engine.store.commit(create("after"))
                assert (await anext(watch)).revision == after
            assert engine.client.switches > 0
