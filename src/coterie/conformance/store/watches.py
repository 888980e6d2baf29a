"""Watches: snapshot first, then every commit's changes, whole and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from ...ports.store import Batch, Change, Commit, Put, Store, Watch
from .._expect import Violation, background, expect, expect_equal
from ..suite import check
from .fixture import Replay, StoreFixture, contents, lease_ttl_s, multi_key, put

_HANG_S = 15.0


@asynccontextmanager
async def _watching(store: Store, prefix: str = "") -> AsyncIterator[tuple[Watch, Replay]]:
    """Begin a watch, take its first snapshot, and close it in the end."""
    async with store.watch(prefix) as watch:
        replay = Replay()
        first = await _next(watch)
        expect(first.snapshot, "the first batch of a watch is no snapshot")
        replay.apply(first)
        yield watch, replay


async def _next(watch: Watch) -> Batch:
    try:
        return await asyncio.wait_for(anext(watch), _HANG_S)
    except TimeoutError:
        raise Violation(f"the watch shows nothing, even after {_HANG_S} s") from None


async def _follow(watch: Watch, replay: Replay, until: Callable[[Replay], bool]) -> list[Batch]:
    """Apply batches until the replayed state is as `until` says; return those applied."""
    batches = []
    while not until(replay):
        batch = await _next(watch)
        expect(batch.revision >= replay.revision, f"revision {batch.revision} comes after {replay.revision}")
        replay.apply(batch)
        batches.append(batch)
    return batches


def _has(key: str) -> Callable[[Replay], bool]:
    return lambda replay: key in replay.state


def _changes(batches: list[Batch]) -> list[Change]:
    return [change for batch in batches for change in batch.changes]


@check
async def a_watch_begins_with_a_snapshot(fixture: StoreFixture) -> None:
    """The first batch holds every entry under the prefix, and no other; it may be empty."""
    store = fixture.store
    async with _watching(store, "p/") as (_watch, replay):
        expect_equal(replay.state, {}, "the snapshot of an empty store")
    version = await put(store, "p/a", b"1")
    await put(store, "p", b"2")
    await put(store, "q/a", b"3")
    await put(store, "p/gone", b"4")
    await store.commit(Commit((), ("p/gone",)))
    async with _watching(store, "p/") as (_watch, replay):
        expect_equal(replay.state, {"p/a": b"1"}, "the snapshot")
        expect_equal(replay.versions, {"p/a": version}, "the snapshot's versions")
        expect(replay.revision >= version, f"the snapshot's revision is {replay.revision}")
    async with _watching(store) as (_watch, replay):
        expect_equal(replay.state, {"p": b"2", "p/a": b"1", "q/a": b"3"}, "the snapshot of everything")


@check
async def changes_follow_in_order(fixture: StoreFixture) -> None:
    """After the snapshot come the changes of each commit, in the order of revisions: puts and deletes."""
    store, other = fixture.store, await fixture.connect()
    for client in (store, other):
        async with _watching(client, "k") as (watch, replay):
            first = await put(store, "k1", b"1")
            second = await put(other, "k2", b"2")
            third = await put(store, "k1", b"3")
            fourth = await other.commit(Commit((), ("k2",)))
            await put(store, "not under the prefix", b"x")
            fifth = await put(other, "k3", b"end")
            batches = await _follow(watch, replay, _has("k3"))
            wanted = [
                Change("k1", b"1", first),
                Change("k2", b"2", second),
                Change("k1", b"3", third),
                Change("k2", None, fourth),
                Change("k3", b"end", fifth),
            ]
            if replay.snapshots == 1:
                expect_equal(_changes(batches), wanted, "the changes")
            expect_equal(replay.state, {"k1": b"3", "k3": b"end"}, "the state")
        for key in ("k1", "k3"):
            await store.commit(Commit((), (key,)))


@check(when=multi_key)
async def a_batch_never_splits_a_commit(fixture: StoreFixture) -> None:
    """The changes of one commit come in one batch, also while several clients write."""
    store, other = fixture.store, await fixture.connect()
    keys = [f"k{i}" for i in range(6)]

    async def write(client: Store, name: str) -> None:
        for round_ in range(40):
            value = f"{name}-{round_}".encode()
            await client.commit(Commit(tuple(Put(key, value) for key in keys)))
        await put(client, f"{name}-done")

    async with _watching(store, "k") as (watch, replay), _watching(store) as (whole_watch, whole):
        await asyncio.gather(write(store, "a"), write(other, "b"))
        await put(store, "k-end")
        while "k-end" not in replay.state:
            replay.apply(await _next(watch))
            states = {(replay.state.get(key), replay.versions.get(key)) for key in keys}
            expect(len(states) == 1, f"a batch leads to parts of several commits: {states}")
        await _follow(whole_watch, whole, _has("k-end"))
        expect_equal(whole.state, await contents(store), "the replayed state")


@check
async def a_watch_misses_no_newest_state(fixture: StoreFixture) -> None:
    """However many clients write at once, what a watch leads to is what the store holds."""
    clients = [fixture.store, await fixture.connect()]

    async def write(client: Store, name: str, phase: int) -> None:
        for round_ in range(12):
            key = f"k{(round_ * 7 + len(name) + phase) % 11}"
            if round_ % 5 == 4:
                await client.commit(Commit((), (key,)))
            else:
                await put(client, key, f"{name}-{phase}-{round_}".encode())

    async with AsyncExitStack() as stack:
        watching = [
            await stack.enter_async_context(_watching(client)) for client in clients for _ in range(2)
        ]
        for phase in range(8):
            names = ("a", "bb", "ccc")
            await asyncio.gather(*(write(client, name, phase) for client in clients for name in names))
            end = f"z-{phase}"
            await put(clients[phase % 2], end)
            for watch, replay in watching:
                await _follow(watch, replay, _has(end))
                expect_equal(replay.state, await contents(fixture.store), "the replayed state")


@check
async def a_slow_watcher_catches_up(fixture: StoreFixture) -> None:
    """A watcher that reads nothing while thousands of changes pass finds its way to the newest state."""
    store, other = fixture.store, await fixture.connect()
    width = min(16, store.guarantees.max_commit_keys) if multi_key(fixture) else 1
    async with _watching(store) as (watch, replay):
        await put(other, "gone")
        for round_ in range(200):
            puts = tuple(Put(f"k{round_ % 4}-{column}", b"%d" % round_) for column in range(width))
            await other.commit(Commit(puts))
        await other.commit(Commit((), ("gone",)))
        await put(other, "z-end")
        await _follow(watch, replay, _has("z-end"))
        expect_equal(replay.state, await contents(store), "the replayed state")
        await put(other, "after")
        await _follow(watch, replay, _has("after"))


@check
async def a_watch_sees_a_lease_end(fixture: StoreFixture) -> None:
    """The entries of a lease that expires vanish from a watch without anyone touching the store."""
    store, other = fixture.store, await fixture.connect()
    async with _watching(other) as (watch, replay):
        lease = await store.grant(lease_ttl_s(store))
        version = await put(store, "key", b"1", lease=lease)
        batches = await _follow(watch, replay, _has("key"))
        batches += await _follow(watch, replay, lambda replay: "key" not in replay.state)
        last = batches[-1]
        expect(last.revision > version, f"the end of the lease has revision {last.revision}, after {version}")
        expect(last.snapshot or last.changes == (Change("key", None, last.revision),), f"the batch is {last}")


@check
async def a_watch_sees_a_lease_revoked(fixture: StoreFixture) -> None:
    """All the entries of a revoked lease vanish from a watch together; the others stay."""
    store, other = fixture.store, await fixture.connect()
    lease = await store.grant(60)
    for key in ("a", "b", "c"):
        await put(store, key, b"1", lease=lease)
    await put(store, "b", b"2")
    async with _watching(other) as (watch, replay):
        await store.revoke(lease)
        await _follow(watch, replay, lambda replay: len(replay.state) < 3)
        expect_equal(replay.state, {"b": b"2"}, "the state after the first batch that deletes")


@check
async def closing_ends_a_waiting_watch(fixture: StoreFixture) -> None:
    """`aclose` ends the iteration, also while `__anext__` waits, and may be called again."""
    store = fixture.store
    async with _watching(store) as (watch, _replay), background(anext(watch)) as waiting:
        await asyncio.sleep(0.02)
        expect(not waiting.done(), "a watch shows a batch although nothing changed")
        await watch.aclose()
        await asyncio.wait([waiting], timeout=_HANG_S)
        expect(waiting.done(), "`__anext__` still waits after `aclose`")
        expect(isinstance(waiting.exception(), StopAsyncIteration), f"it ended with {waiting!r}")
        await watch.aclose()
        async for batch in watch:
            raise Violation(f"a closed watch shows {batch}")
    await put(store, "key")


@check
async def giving_up_waiting_loses_nothing(fixture: StoreFixture) -> None:
    """A `__anext__` that is cancelled while it waits takes no batch with it."""
    store, other = fixture.store, await fixture.connect()
    async with _watching(store) as (watch, replay):
        for round_ in range(24):
            waiting = asyncio.ensure_future(anext(watch))
            for _ in range(round_ % 3):
                await asyncio.sleep(0)
            if round_ % 4:
                await put(other, f"k{round_}")
                for _ in range(round_ // 3):
                    await asyncio.sleep(0)
            waiting.cancel()
            for result in await asyncio.gather(waiting, return_exceptions=True):
                if isinstance(result, Batch):
                    replay.apply(result)
        await put(other, "z-end")
        await _follow(watch, replay, _has("z-end"))
        expect_equal(replay.state, await contents(store), "the replayed state")


@check
async def many_watches_see_each_commit(fixture: StoreFixture) -> None:
    """Some dozens of watches, of one prefix or of many, each follow their own."""
    store, other = fixture.store, await fixture.connect()

    async def follow(index: int) -> dict[str, bytes]:
        async with _watching((store, other)[index % 2], f"{index % 5}/") as (watch, replay):
            ready.release()
            await _follow(watch, replay, _has(f"{index % 5}/end"))
            return replay.state

    ready = asyncio.Semaphore(0)
    followers = [asyncio.create_task(follow(index)) for index in range(40)]
    try:
        for _ in followers:
            await asyncio.wait_for(ready.acquire(), _HANG_S)
        for group in range(5):
            await put(store, f"{group}/key", b"%d" % group)
            await put(other, f"{group}/end")
        for index, state in enumerate(await asyncio.gather(*followers)):
            group = index % 5
            expect_equal(state, {f"{group}/key": b"%d" % group, f"{group}/end": b""}, "what a watch shows")
    finally:
        for follower in followers:
            follower.cancel()
