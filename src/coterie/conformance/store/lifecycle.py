"""Closing and opening again."""

from __future__ import annotations

import asyncio

from ...errors import Conflict, CoterieError, Fenced, Outcome, Unavailable
from ...ports.store import Check, Commit, Fence, Put
from .._expect import background, expect, expect_equal, raises
from ..suite import check
from .fixture import StoreFixture, contents, durable, put, put_all, several_clients, versions


@check
async def the_guarantees_make_sense(fixture: StoreFixture) -> None:
    """The declared limits are positive, allow a useful store, and are the same for every client."""
    given = fixture.store.guarantees
    expect(given.engine, "the guarantees name no engine")
    expect(given.max_key_bytes >= 256, f"max_key_bytes is {given.max_key_bytes}, below 256")
    expect(given.max_value_bytes >= 65536, f"max_value_bytes is {given.max_value_bytes}, below 64 KiB")
    expect(given.max_commit_keys >= 8, f"max_commit_keys is {given.max_commit_keys}, below 8")
    expect(given.min_lease_s > 0, f"min_lease_s is {given.min_lease_s}")
    other = await fixture.connect()
    expect_equal(other.guarantees, given, "what another client guarantees")


@check
async def a_closed_store_refuses_everything(fixture: StoreFixture) -> None:
    """After `close`, which may be called again, every call raises `Unavailable`."""
    store = await fixture.connect()
    await put(store, "key")
    lease = await store.grant(60)
    await store.close()
    await store.close()
    with raises(Unavailable, what="get"):
        await store.get("key")
    with raises(Unavailable, what="scan"):
        await store.scan("")
    with raises(Unavailable, Outcome.NOT_APPLIED, what="commit"):
        await put(store, "key")
    with raises(Unavailable, what="grant"):
        await store.grant(60)
    with raises(Unavailable, what="renew"):
        await store.renew(lease)
    with raises(Unavailable, what="revoke"):
        await store.revoke(lease)
    with raises(Unavailable, what="a watch"):
        async with store.watch("") as watch:
            await anext(watch)


@check
async def closing_the_store_ends_its_watches(fixture: StoreFixture) -> None:
    """A watch that waits when its store is closed ends with `Unavailable`."""
    store = await fixture.connect()
    async with store.watch("") as watch:
        await anext(watch)
        async with background(anext(watch)) as waiting:
            await asyncio.sleep(0.02)
            await store.close()
            await asyncio.wait([waiting], timeout=15)
            expect(waiting.done(), "the watch still waits")
            error = waiting.exception()
            expect(isinstance(error, Unavailable), f"the watch ended with {error!r}")


@check
async def commits_under_way_end_with_the_store(fixture: StoreFixture) -> None:
    """Each commit under way when the store is closed returns, or raises `Unavailable`; none hangs."""
    store = await fixture.connect()
    commits = [asyncio.create_task(put(store, f"key-{index}")) for index in range(30)]
    await asyncio.sleep(0)
    await store.close()
    done, hanging = await asyncio.wait(commits, timeout=15)
    expect(not hanging, f"{len(hanging)} of {len(commits)} commits hang")
    for commit in done:
        error = commit.exception()
        expect(error is None or isinstance(error, Unavailable), f"a commit ended with {error!r}")


@check(when=several_clients)
async def closing_one_client_leaves_the_others(fixture: StoreFixture) -> None:
    """What one client does to itself is nothing to the others: they read, write, watch and lease on."""
    store, other = fixture.store, await fixture.connect()
    async with store.watch("") as watch:
        await anext(watch)
        revision = await put(other, "key", b"1")
        await other.close()
        expect_equal((await asyncio.wait_for(anext(watch), 15)).revision, revision, "the watch's revision")
        expect_equal(await contents(store), {"key": b"1"}, "what a scan finds")
        revision = await put(store, "key", b"2", expect=revision)
        expect_equal((await asyncio.wait_for(anext(watch), 15)).revision, revision, "the watch's revision")
        await store.revoke(await store.grant(60))


@check(when=durable)
async def acknowledged_commits_outlive_a_reopening(fixture: StoreFixture) -> None:
    """Entries, versions, fences and the rise of revisions are the same after the store is opened again."""
    store = fixture.store
    other = await fixture.connect()
    await put_all(other, [f"key-{index:03}" for index in range(200)], b"1")
    await store.commit(Commit((Put("kept", b"2"),), ("key-007",), fences=(Fence("lock", 9),)))
    before, [version] = await contents(store), await versions(store, "kept")
    last = await store.commit(Commit((), ("key-100",)))
    del before["key-100"]
    store = await fixture.reopen()
    expect_equal(await contents(store), before, "the contents")
    expect_equal(await versions(store, "kept", "key-007", "key-100"), [version, 0, 0], "the versions")
    with raises(Fenced, Outcome.NOT_APPLIED):
        await store.commit(Commit(fences=(Fence("lock", 8),)))
    with raises(Conflict):
        await store.commit(Commit(checks=(Check("kept", version + 1),)))
    expect(await put(store, "key-100") > last, "a revision is used again")


@check(when=durable)
async def a_close_keeps_what_it_acknowledged(fixture: StoreFixture) -> None:
    """Of the commits under way when the store is closed, the acknowledged are kept, the refused are not."""
    store = fixture.store
    acknowledged: set[str] = set()
    refused: set[str] = set()
    first = asyncio.Event()

    async def attempt(key: str) -> None:
        try:
            await put(store, key)
        except CoterieError as error:
            if error.outcome is Outcome.NOT_APPLIED:
                refused.add(key)
        else:
            acknowledged.add(key)
            first.set()

    commits = [asyncio.create_task(attempt(f"key-{index}")) for index in range(60)]
    await asyncio.wait_for(first.wait(), 15)
    await store.close()
    await asyncio.wait_for(asyncio.gather(*commits), 15)
    found = set(await contents(await fixture.reopen()))
    expect(acknowledged <= found, f"acknowledged and lost: {sorted(acknowledged - found)}")
    expect(not refused & found, f"refused and applied: {sorted(refused & found)}")
