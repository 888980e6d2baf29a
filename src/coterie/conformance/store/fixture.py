"""What the suite needs to know about the store under test, and the words its checks are written in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...ports.guarantees import Durability, Scope
from ...ports.store import Batch, Check, Commit, Entry, Put, Store

__all__ = [
    "Replay",
    "StoreFixture",
    "contents",
    "durable",
    "lease_ttl_s",
    "multi_key",
    "put",
    "put_all",
    "several_clients",
    "single_key",
    "versions",
    "view",
]


class StoreFixture(Protocol):
    """A store with no entries and clients of it, all closed when the fixture ends."""

    @property
    def store(self) -> Store:
        """The first client."""
        ...

    async def connect(self) -> Store:
        """Return another client of the same data; the same object where the scope is the process."""
        ...

    async def reopen(self) -> Store:
        """Close every client and return a new one of the same data.

        Only called when the store guarantees at least `Durability.PROCESS_CRASH`.
        """
        ...


def multi_key(fixture: StoreFixture) -> bool:
    """Whether commits of several keys are promised."""
    return fixture.store.guarantees.multi_key_commit


def single_key(fixture: StoreFixture) -> bool:
    """Whether commits of several keys are refused."""
    return not fixture.store.guarantees.multi_key_commit


def durable(fixture: StoreFixture) -> bool:
    """Whether acknowledged commits outlive the clients."""
    return fixture.store.guarantees.durability >= Durability.PROCESS_CRASH


def several_clients(fixture: StoreFixture) -> bool:
    """Whether a second client is another object, which can be closed by itself."""
    return fixture.store.guarantees.scope > Scope.PROCESS


def lease_ttl_s(store: Store) -> float:
    """Return a short lease time, though not so short that a busy machine cannot use the lease."""
    return max(store.guarantees.min_lease_s, 0.3)


async def put(
    store: Store, key: str, value: bytes = b"", *, lease: int = 0, expect: int | None = None
) -> int:
    """Commit one put, guarded by the version `expect` if one is given, and return the revision."""
    checks = () if expect is None else (Check(key, expect),)
    return await store.commit(Commit((Put(key, value, lease),), (), checks))


async def put_all(store: Store, keys: Iterable[str], value: bytes = b"", *, lease: int = 0) -> int:
    """Put each key, in as few commits as the store allows; return the last revision."""
    guarantees = store.guarantees
    size = min(guarantees.max_commit_keys, 64) if guarantees.multi_key_commit else 1
    puts = [Put(key, value, lease) for key in keys]
    revision = 0
    for start in range(0, len(puts), size):
        revision = await store.commit(Commit(tuple(puts[start : start + size])))
    return revision


async def contents(store: Store, prefix: str = "") -> dict[str, bytes]:
    """Return all that a scan finds, page by page, in the scan's order."""
    found: dict[str, bytes] = {}
    after = ""
    while True:
        page = await store.scan(prefix, after=after)
        found.update((entry.key, entry.value) for entry in page.entries)
        if not page.more:
            return found
        after = page.entries[-1].key


async def view(store: Store) -> dict[str, Entry]:
    """Return all entries as of one revision, whatever is committed between two pages."""
    while True:
        found: dict[str, Entry] = {}
        revisions = set()
        after, more = "", True
        while more:
            page = await store.scan("", after=after)
            revisions.add(page.revision)
            found.update((entry.key, entry) for entry in page.entries)
            after, more = page.entries[-1].key if page.entries else "", page.more
        if len(revisions) == 1:
            return found


async def versions(store: Store, *keys: str) -> list[int]:
    """Return the version of each key, 0 for those that are absent."""
    entries = [await store.get(key) for key in keys]
    return [0 if entry is None else entry.version for entry in entries]


class Replay:
    """What a watcher knows: the state that the batches lead to, by the rules of `Batch`."""

    def __init__(self) -> None:
        self.state: dict[str, bytes] = {}
        self.versions: dict[str, int] = {}
        self.revision: int = 0
        self.snapshots: int = 0

    def apply(self, batch: Batch) -> None:
        """Bring the state up to date with `batch`."""
        if batch.snapshot:
            self.state.clear()
            self.versions.clear()
            self.snapshots += 1
        for change in batch.changes:
            if change.value is None:
                self.state.pop(change.key, None)
                self.versions.pop(change.key, None)
            else:
                self.state[change.key] = change.value
                self.versions[change.key] = change.version
        self.revision = batch.revision
