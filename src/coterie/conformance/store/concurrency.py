"""Commits of several clients at the same time: atomic, linearizable, cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ...errors import Conflict, CoterieError, Outcome
from ...ports.store import ABSENT, Check, Commit, Put, Store
from .._expect import Violation, background, expect, expect_equal
from ..suite import check
from .fixture import StoreFixture, contents, multi_key, put, versions

_KEYS = tuple(f"pair-{i}" for i in range(5))


@check(when=multi_key)
async def readers_never_see_half_a_commit(fixture: StoreFixture) -> None:
    """While commits of several keys are written, every page shows all of a commit or nothing of it."""
    store, other = fixture.store, await fixture.connect()

    async def write(client: Store, name: bytes) -> None:
        for round_ in range(60):
            await client.commit(Commit(tuple(Put(key, b"%s-%d" % (name, round_)) for key in _KEYS)))

    async def read(client: Store) -> None:
        while True:
            page = await client.scan("pair-")
            states = {(entry.value, entry.version) for entry in page.entries}
            expect(len(states) <= 1, f"one page shows parts of several commits: {states}")
            expect(
                len(page.entries) in {0, len(_KEYS)}, f"a page shows {len(page.entries)} of {len(_KEYS)} keys"
            )
            await asyncio.sleep(0)

    async with background(read(store)) as first, background(read(other)) as second:
        await asyncio.gather(write(store, b"a"), write(other, b"b"))
        for reader in (first, second):
            if reader.done():
                reader.result()


@check
async def concurrent_commits_have_their_own_revisions(fixture: StoreFixture) -> None:
    """Of many commits under way at once, each gets a revision of its own, and the entry to match."""
    clients = [fixture.store, await fixture.connect()]
    keys = [f"key-{i}" for i in range(100)]
    revisions = await asyncio.gather(*(put(clients[i % 2], key) for i, key in enumerate(keys)))
    expect_equal(len(set(revisions)), len(revisions), "the number of distinct revisions")
    expect_equal(await versions(fixture.store, *keys), list(revisions), "the versions")


@check
async def refused_commits_do_not_touch_their_neighbours(fixture: StoreFixture) -> None:
    """Of many commits under way at once, those that cannot be applied fail alone; all others are applied."""
    store = fixture.store

    async def attempt(index: int) -> bool:
        expected = ABSENT if index % 3 else 999_999
        try:
            await put(store, f"key-{index:02}", b"%d" % index, expect=expected)
        except Conflict:
            return False
        return True

    applied = await asyncio.gather(*(attempt(index) for index in range(60)))
    expect_equal(list(applied), [index % 3 != 0 for index in range(60)], "which commits were applied")
    wanted = {f"key-{index:02}": b"%d" % index for index in range(60) if index % 3}
    expect_equal(await contents(store), wanted, "the store")


@check
async def compare_and_set_loses_no_update(fixture: StoreFixture) -> None:
    """Increments by several clients, each guarded by the version that it read, all count."""
    clients = [fixture.store, await fixture.connect(), await fixture.connect()]
    each = 20

    async def increment(client: Store) -> None:
        done = 0
        while done < each:
            entry = await client.get("counter")
            value = 0 if entry is None else int(entry.value)
            try:
                await put(client, "counter", b"%d" % (value + 1), expect=entry.version if entry else ABSENT)
                done += 1
            except Conflict:
                await asyncio.sleep(0)

    await asyncio.gather(*(increment(client) for client in clients for _ in range(2)))
    expect_equal(await contents(fixture.store), {"counter": b"%d" % (each * len(clients) * 2)}, "the counter")


@check(when=multi_key)
async def transactions_are_serializable(fixture: StoreFixture) -> None:
    """Transactions that check all they read keep a rule that spans keys, though each writes only one."""
    clients = [fixture.store, await fixture.connect()]
    await fixture.store.commit(Commit((Put("a", b"50"), Put("b", b"50"))))

    async def withdraw(client: Store, key: str) -> None:
        # The rule is a + b >= 0, and each writes one key only: without the check of the other key,
        # two at once would break it (write skew).
        for _ in range(12):
            both = {entry.key: entry for entry in (await client.scan("")).entries}
            if sum(int(entry.value) for entry in both.values()) < 10:
                return
            left = b"%d" % (int(both[key].value) - 10)
            checks = tuple(Check(entry.key, entry.version) for entry in both.values())
            await asyncio.sleep(0)
            try:
                await client.commit(Commit((Put(key, left),), (), checks))
            except Conflict:
                await asyncio.sleep(0)

    await asyncio.gather(
        *(withdraw(client, key) for client in clients for key in ("a", "b") for _ in range(3))
    )
    balance = sum(int(value) for value in (await contents(fixture.store)).values())
    expect(balance >= 0, f"the sum fell to {balance}")


@dataclass
class _Register:
    """What each client of one key saw, in the loop's order of events.

    Versions are unique and rise, so a history is linearizable exactly if the order of the versions
    agrees with real time: an operation never returns an older version than one that an operation
    acknowledged before it began had already returned.
    """

    newest: int = 0
    writes: dict[int, bytes] = field(default_factory=dict)

    def ended(self, floor: int, version: int, what: str) -> None:
        if version < floor:
            raise Violation(f"{what} returned version {version}, although {floor} was seen before it began")
        self.newest = max(self.newest, version)


@check
async def operations_are_linearizable(fixture: StoreFixture) -> None:
    """Reads and writes of several clients at once agree with one order that respects real time."""
    clients = [fixture.store, await fixture.connect(), await fixture.connect()]
    register = _Register()

    async def write(client: Store, name: str) -> None:
        for round_ in range(40):
            floor, value = register.newest, f"{name}-{round_}".encode()
            version = await put(client, "key", value)
            expect(version not in register.writes, f"two commits have the revision {version}")
            expect(version > floor, f"a commit has revision {version}; {floor} was seen before it began")
            register.writes[version] = value
            register.ended(floor, version, "a commit")

    async def read(client: Store) -> None:
        while True:
            floor = register.newest
            entry = await client.get("key")
            register.ended(floor, entry.version if entry else ABSENT, "a get")
            if entry:
                seen.append((entry.version, entry.value))
            floor = register.newest
            page = await client.scan("ke")
            register.ended(floor, page.entries[0].version if page.entries else ABSENT, "a scan")
            await asyncio.sleep(0)

    seen: list[tuple[int, bytes]] = []
    readers = [asyncio.create_task(read(client)) for client in clients]
    try:
        await asyncio.gather(*(write(client, f"{index}") for index, client in enumerate(clients)))
    finally:
        for reader in readers:
            reader.cancel()
        results = await asyncio.gather(*readers, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    for version, value in seen:
        expect_equal(value, register.writes[version], f"the value read at version {version}")


@check
async def a_cancelled_commit_is_applied_whole_or_not(fixture: StoreFixture) -> None:
    """Cancelling a commit under way leaves all of it or nothing, and the store in good order."""
    store, other = fixture.store, await fixture.connect()
    keys = _KEYS if multi_key(fixture) else _KEYS[:1]
    for round_ in range(40):
        value = b"%d" % round_
        before = asyncio.create_task(store.commit(Commit(tuple(Put(key, value + b"-1") for key in keys))))
        neighbour = asyncio.create_task(put(store, "neighbour", value))
        after = asyncio.create_task(store.commit(Commit(tuple(Put(key, value + b"-2") for key in keys))))
        for _ in range(round_ % 8):
            await asyncio.sleep(0)
        before.cancel()
        after.cancel()
        await asyncio.wait([before, neighbour, after])
        revision = neighbour.result()
        page = await other.scan("pair-")
        states = {(entry.value, entry.version) for entry in page.entries}
        expect(
            len(states) <= 1 and len(page.entries) in {0, len(keys)}, f"parts of commits are left: {states}"
        )
        expect(await put(store, "neighbour") > revision, "the next commit has no later revision")


@check
async def a_refused_commit_says_so_truthfully(fixture: StoreFixture) -> None:
    """A commit that raises `not_applied` was not applied, even when many clients race for one key."""
    clients = [fixture.store, await fixture.connect()]

    async def attempt(index: int) -> bytes | None:
        value = b"%d" % index
        try:
            await put(clients[index % 2], "key", value, expect=ABSENT)
        except CoterieError as error:
            expect_equal(error.outcome, Outcome.NOT_APPLIED, "the outcome of a lost race")
            return None
        return value

    winners = [value for value in await asyncio.gather(*(attempt(i) for i in range(30))) if value]
    expect_equal(len(winners), 1, "the number of commits that created the key")
    expect_equal(await contents(fixture.store), {"key": winners[0]}, "the store")
