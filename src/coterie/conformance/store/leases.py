"""Leases: granted, renewed, ended, and the entries that vanish with them."""

from __future__ import annotations

import asyncio
import math

from ...errors import Conflict, InvalidArgument, LeaseLost, Outcome
from ...ports.store import ABSENT, Check, Commit, Put, Store
from .._expect import eventually, expect, expect_equal, raises
from ..suite import check
from .fixture import (
    StoreFixture,
    contents,
    durable,
    lease_ttl_s,
    multi_key,
    put,
    put_all,
    several_clients,
    versions,
)

_LONG_S = 60.0
_CLOCK_SLACK_S = 0.01
"""Two clocks of one machine may tick in steps of this size."""


@check
async def lease_ids_are_unique(fixture: StoreFixture) -> None:
    """Each grant returns an id above 0 that no other grant to any client returns."""
    clients = [fixture.store, await fixture.connect()]
    ids = await asyncio.gather(*(client.grant(_LONG_S) for client in clients for _ in range(10)))
    expect(all(lease > 0 for lease in ids), f"the ids are {ids}")
    expect_equal(len(set(ids)), len(ids), "the number of distinct ids")


@check
async def impossible_lease_times_are_refused(fixture: StoreFixture) -> None:
    """A lease time that is no number, not positive or endless is an `InvalidArgument`."""
    for ttl_s in (0.0, -1.0, math.nan, math.inf):
        with raises(InvalidArgument, what=f"a grant of {ttl_s} s"):
            await fixture.store.grant(ttl_s)
    await fixture.store.grant(fixture.store.guarantees.min_lease_s)


@check
async def entries_vanish_with_their_lease(fixture: StoreFixture) -> None:
    """When a lease ends its entries vanish for every client, never before the time; others stay."""
    store, other = fixture.store, await fixture.connect()
    ttl_s = lease_ttl_s(store)
    loop = asyncio.get_running_loop()
    await put(store, "plain", b"1")
    await put(store, "long", b"1", lease=await store.grant(_LONG_S))
    granted = loop.time()
    lease = await store.grant(ttl_s)
    version = await put_all(store, ["leased-1", "leased-2"], b"1", lease=lease)
    entry = await other.get("leased-2")
    expect(entry is not None and entry.lease == lease, f"the entry does not name its lease: {entry}")

    async def gone() -> bool:
        present = await versions(other, "leased-1", "leased-2")
        if all(present):
            return False
        age = loop.time() - granted
        expect(age >= ttl_s - _CLOCK_SLACK_S, f"a lease of {ttl_s} s ended after {age:.3f} s")
        return not any(present)

    await eventually(gone, "the entries of an ended lease are gone")
    for client in (store, other):
        expect_equal(list(await contents(client)), ["long", "plain"], "what a scan finds")
    with raises(Conflict, Outcome.NOT_APPLIED, what="a check of the vanished version"):
        await put(store, "leased-2", expect=version)
    expect(
        await put(store, "leased-2", b"2", expect=ABSENT) > version, "the key put again has no later version"
    )


@check
async def a_renewed_lease_lives_on(fixture: StoreFixture) -> None:
    """Renewing gives a lease its full time again, from the call on, as often as it is done."""
    store, other = fixture.store, await fixture.connect()
    ttl_s = lease_ttl_s(store)
    for _ in range(5):
        if await _renew_for_a_while(store, other, ttl_s):
            return
    raise TimeoutError("this machine is too busy: it kept pausing for longer than the lease's time")


async def _renew_for_a_while(store: Store, other: Store, ttl_s: float) -> bool:
    """Return False if a pause of this process may have cost the lease, so that nothing was shown."""
    loop = asyncio.get_running_loop()
    renewed = loop.time()
    lease = await store.grant(ttl_s)
    await put(store, "key", b"", lease=lease)
    began = loop.time()
    while loop.time() - began < 2.5 * ttl_s:
        await asyncio.sleep(ttl_s / 5)
        before, last = loop.time(), renewed
        try:
            await (store, other)[int(before * 1000) % 2].renew(lease)
        except LeaseLost:
            if loop.time() - last >= ttl_s - _CLOCK_SLACK_S:
                return False
            raise
        renewed = before

    async def gone() -> bool:
        return await other.get("key") is None

    await eventually(gone, "the entry of a lease that is no longer renewed is gone")
    age = loop.time() - renewed
    expect(age >= ttl_s - _CLOCK_SLACK_S, f"a lease of {ttl_s} s ended {age:.3f} s after it was renewed")
    return True


@check
async def an_ended_lease_cannot_be_renewed(fixture: StoreFixture) -> None:
    """Renewing a lease that expired, was revoked or never was raises `LeaseLost`."""
    store, other = fixture.store, await fixture.connect()
    expired = await store.grant(lease_ttl_s(store))
    await put(store, "key", lease=expired)
    revoked = await store.grant(_LONG_S)
    await store.revoke(revoked)

    async def gone() -> bool:
        return await store.get("key") is None

    await eventually(gone, "the entry of an expired lease is gone")
    for client in (store, other):
        for lease in (expired, revoked, 2**40):
            with raises(LeaseLost, what=f"renewing the lease {lease}"):
                await client.renew(lease)


@check
async def revoking_deletes_the_entries_now(fixture: StoreFixture) -> None:
    """A revoked lease's entries are gone when the call returns; revoking again does nothing."""
    store, other = fixture.store, await fixture.connect()
    lease = await store.grant(_LONG_S)
    before = await put_all(store, ["a", "b"], lease=lease)
    await put(store, "plain")
    await other.revoke(lease)
    expect_equal(list(await contents(store)), ["plain"], "what a scan finds")
    for client in (store, other):
        await client.revoke(lease)
        await client.revoke(2**40)
    expect_equal(list(await contents(store)), ["plain"], "what a scan finds")
    expect(await put(store, "a", expect=ABSENT) > before, "the key put again has no later version")


@check
async def an_ended_lease_refuses_puts(fixture: StoreFixture) -> None:
    """A put with a lease that is not alive raises `LeaseLost`, and nothing of its commit is applied."""
    store = fixture.store
    ended = await store.grant(_LONG_S)
    await store.revoke(ended)
    await put(store, "old", b"1")
    for lease in (ended, 2**40):
        commit = Commit((Put("key", b"", lease),))
        if multi_key(fixture):
            commit = Commit((Put("new", b""), Put("key", b"", lease), Put("old", b"2")))
        with raises(LeaseLost, Outcome.NOT_APPLIED, what=f"a put with the lease {lease}"):
            await store.commit(commit)
    expect_equal(await contents(store), {"old": b"1"}, "the store")


@check
async def an_expired_lease_refuses_puts(fixture: StoreFixture) -> None:
    """Once a lease's entries have vanished, a put with it raises `LeaseLost` as well."""
    store = fixture.store
    lease = await store.grant(lease_ttl_s(store))
    await put(store, "key", lease=lease)

    async def gone() -> bool:
        return await store.get("key") is None

    await eventually(gone, "the entry of an expired lease is gone")
    with raises(LeaseLost, Outcome.NOT_APPLIED):
        await put(store, "key", lease=lease)
    expect_equal(await contents(store), {}, "the store")


@check
async def a_put_decides_the_lease_anew(fixture: StoreFixture) -> None:
    """The last put of a key says which lease it vanishes with, if any."""
    store = fixture.store
    first, second = await store.grant(_LONG_S), await store.grant(_LONG_S)
    for key in ("freed", "moved", "remade", "kept"):
        await put(store, key, lease=first)
    await put(store, "freed")
    await put(store, "moved", lease=second)
    await store.commit(Commit((), ("remade",)))
    await put(store, "remade")
    await put(store, "caught")
    await put(store, "caught", lease=second)
    await store.revoke(first)
    expect_equal(list(await contents(store)), ["caught", "freed", "moved", "remade"], "after the first lease")
    await store.revoke(second)
    expect_equal(list(await contents(store)), ["freed", "remade"], "after the second lease")


@check
async def a_lease_serves_every_client(fixture: StoreFixture) -> None:
    """A lease that one client was granted can be used, renewed and ended by any other."""
    store, other = fixture.store, await fixture.connect()
    lease = await store.grant(_LONG_S)
    await put(other, "key", lease=lease)
    await other.renew(lease)
    expect_equal(list(await contents(store)), ["key"], "what a scan finds")
    await other.revoke(lease)
    with raises(LeaseLost):
        await store.renew(lease)


@check(when=several_clients)
async def a_lease_outlives_the_client_that_asked(fixture: StoreFixture) -> None:
    """Closing the client that a lease was granted to does not end the lease."""
    other = await fixture.connect()
    lease = await other.grant(_LONG_S)
    await put(other, "key", lease=lease)
    await other.close()
    expect_equal(list(await contents(fixture.store)), ["key"], "what a scan finds")
    await fixture.store.renew(lease)


@check(when=durable)
async def leases_outlive_a_reopening(fixture: StoreFixture) -> None:
    """A lease lives on, and ends in its time, when the store is closed and opened meanwhile."""
    store = fixture.store
    await put(store, "long", lease=(long := await store.grant(_LONG_S)))
    await put(store, "short", lease=await store.grant(lease_ttl_s(store)))
    store = await fixture.reopen()
    expect((await versions(store, "long"))[0] > 0, "an entry vanished before its lease's time")
    await store.renew(long)

    async def gone() -> bool:
        return await store.get("short") is None

    await eventually(gone, "the entry of a lease that ended is gone")
    await store.commit(Commit(checks=(Check("short", ABSENT),)))
    expect_equal(list(await contents(store)), ["long"], "what a scan finds")
    expect(await store.grant(_LONG_S) != long, "an id was granted twice")
