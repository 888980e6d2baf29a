"""Who may come in, and what the server's settings allow to promise."""

from __future__ import annotations

import asyncio
import socket

import asyncpg
import pytest
from postgres_tools import QUICK, create, engine_at

from coterie import lab
from coterie.errors import Conflict, CorruptData, InvalidConfiguration, Outcome, PermissionDenied, Unavailable
from coterie.ports import Durability, Store
from coterie.ports.log import Record
from coterie.ports.store import ABSENT, Check, Commit, Put


async def refused(url: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as raised:
        async with engine_at(url):
            pass
    assert getattr(raised.value, "outcome", None) is Outcome.NOT_APPLIED
    assert "secret" not in str(raised.value)


async def test_a_wrong_login_database_or_port_is_told_apart_at_once() -> None:
    async with lab.start("postgres", user="ann", password="secret") as cluster:
        async with engine_at(cluster.url) as engine:
            await engine.store.commit(create("key"))
        await refused(cluster.url.replace("secret", "wrong"), PermissionDenied, "refuses the login")
        await refused(cluster.url.replace("ann:", "bob:"), PermissionDenied, "refuses the login")
        await refused(
            cluster.url.replace("/coterie", "/nothing"), InvalidConfiguration, '"nothing" does not exist'
        )
        await refused(f"{cluster.url}?sslmode=sideways", InvalidConfiguration, "sslmode")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            await refused(
                f"postgresql://ann:secret@127.0.0.1:{port}/coterie", Unavailable, "cannot be reached"
            )


async def test_several_who_start_at_once_make_one_schema_and_a_newer_one_is_left_alone() -> None:
    async with lab.start("postgres", settings={"fsync": "off"}) as cluster:

        async def first_commit(key: str) -> Durability:
            async with engine_at(cluster.url, schema="shared") as engine:
                await engine.store.commit(create(key))
                return engine.store.guarantees.durability

        given = await asyncio.gather(*(first_commit(f"{index}") for index in range(5)))
        assert set(given) == {Durability.PROCESS_CRASH}  # fsync is off.
        async with engine_at(cluster.url, schema="shared") as engine:
            assert len((await engine.store.scan("")).entries) == 5
        direct = await asyncpg.connect(cluster.url)
        await direct.execute("UPDATE shared.meta SET format = 99")
        await direct.close()
        with pytest.raises(CorruptData, match="format 99"):
            async with engine_at(cluster.url, schema="shared"):
                pass


async def count_up(store: Store, times: int) -> None:
    """Add 1 to the counter so often, by compare-and-set."""
    done = 0
    while done < times:
        entry = await store.get("counter")
        value, version = (int(entry.value), entry.version) if entry else (0, ABSENT)
        try:
            commit = Commit((Put("counter", b"%d" % (value + 1)),), (), (Check("counter", version),))
            await store.commit(commit)
            done += 1
        except Conflict:
            await asyncio.sleep(0)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_stricter_isolation_costs_repeats_and_no_update(isolation: str) -> None:
    settings = {"default_transaction_isolation": isolation}
    async with (
        lab.start("postgres", settings=settings) as cluster,
        engine_at(cluster.url, prepared="off") as first,
        engine_at(cluster.url) as second,
    ):
        await first.log.create("topic", 1)

        async def work(engine_number: int) -> None:
            engine = (first, second)[engine_number]
            for _ in range(5):
                await count_up(engine.store, 4)
                await engine.log.append("topic", 0, [Record(b"")])

        await asyncio.gather(*(work(index % 2) for index in range(4)))
        entry = await first.store.get("counter")
        assert entry is not None
        assert entry.value == b"80"
        assert (await second.log.bounds("topic", 0)).next == 20


@pytest.mark.slow
async def test_what_synchronous_standbys_hold_outlives_the_primary() -> None:
    names = 'ANY 2 ("postgres-1", "postgres-2")'
    settings = {"synchronous_standby_names": names, "synchronous_commit": "remote_apply", **QUICK}
    async with lab.start("postgres", members=3, settings=settings) as cluster:
        await refused(cluster.urls[1], Unavailable, "is a standby")
        async with engine_at(cluster.url) as engine:
            assert engine.store.guarantees.durability is Durability.MACHINE_LOSS
            written = {f"{index}": await engine.store.commit(create(f"{index}")) for index in range(30)}
            async with engine.store.watch("") as watch:
                await anext(watch)
                await cluster.kill(0)
                late = asyncio.create_task(engine.store.commit(create("late")))
                await cluster.promote(1)
                # The new primary waits for its standby only.
                direct = await asyncpg.connect(cluster.urls[1])
                await direct.execute("ALTER SYSTEM SET synchronous_standby_names = '\"postgres-2\"'")
                await direct.execute("SELECT pg_reload_conf()")
                await direct.close()
                written["late"] = await late
                batch = await anext(watch)
                assert [change.key for change in batch.changes] == ["late"]
            page = await engine.store.scan("")
            assert {entry.key: entry.version for entry in page.entries} == written


@pytest.mark.slow
async def test_tls_is_asked_for_by_the_url() -> None:
    async with lab.start("postgres", user="ann", password="secret", tls=True) as cluster:
        made = cluster.certificates
        assert made is not None
        await refused(f"{cluster.url}?sslmode=disable", PermissionDenied, "refuses the login")
        await refused(f"{cluster.url}?sslmode=verify-full", InvalidConfiguration, "root certificate")
        files = f"sslrootcert={made.ca}&sslcert={made.certificate}&sslkey={made.key}"
        async with engine_at(f"{cluster.url}?sslmode=verify-full&{files}") as engine:
            await engine.store.commit(create("key"))


async def test_a_page_of_large_records_ends_early_and_the_next_goes_on() -> None:
    async with lab.start("postgres") as cluster, engine_at(cluster.url) as engine:
        log = engine.log
        await log.create("topic", 1)
        sizes = [10] * 30 + [1_000_000] * 40 + [10] * 30
        for index in range(0, len(sizes), 10):
            await log.append("topic", 0, [Record(b"x" * size) for size in sizes[index : index + 10]])
        assert len((await log.read("topic", 0, 0, limit=10)).records) == 10
        # The small ones before make it expect small ones, so that one page is larger than it should be.
        assert len((await log.read("topic", 0, 30, limit=40)).records) == 40
        found, offset, pages = [], 0, 0
        while offset < len(sizes):
            page = await log.read("topic", 0, offset)
            assert sum(len(stored.record.value) for stored in page.records) < 18_000_000
            assert [stored.offset for stored in page.records] == list(range(offset, page.next_offset))
            found += [len(stored.record.value) for stored in page.records]
            offset, pages = page.next_offset, pages + 1
        assert found == sizes
        assert pages > 2


async def test_records_that_somebody_has_deleted_by_hand_are_missed() -> None:
    async with lab.start("postgres") as cluster, engine_at(cluster.url) as engine:
        await engine.log.create("topic", 1)
        await engine.log.append("topic", 0, [Record(b"x")] * 5)
        admin = await asyncpg.connect(cluster.url)
        try:
            await admin.execute("DELETE FROM coterie.records WHERE number = 2")
        finally:
            await admin.close()
        with pytest.raises(CorruptData, match="'topic', partition 0: of 0 to 4 records are missing"):
            await engine.log.read("topic", 0, 0)
        assert len((await engine.log.read("topic", 0, 3)).records) == 2
