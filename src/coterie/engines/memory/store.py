"""The reference implementation of the `Store` port: the contract, in as few words as Python allows.

Nothing awaits between the first check and the last write of a commit, so the event loop is what
makes it atomic. It belongs to one loop and is not safe for use from several threads.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

from ...errors import Conflict, Fenced, Outcome, Unavailable
from ...ports.clock import Clock
from ...ports.guarantees import Consistency, Durability, Scope
from ...ports.store import (
    ABSENT,
    Batch,
    Change,
    Commit,
    Entry,
    Page,
    StoreGuarantees,
    Watch,
    validate_commit,
    validate_key,
    validate_prefix,
    validate_scan,
    validate_ttl,
)
from .leases import Leases, lease_lost
from .watches import MemoryWatch

__all__ = ["MemoryStore"]

_GUARANTEES = StoreGuarantees(
    engine="memory",
    consistency=Consistency.LINEARIZABLE,
    durability=Durability.NONE,
    scope=Scope.PROCESS,
    min_lease_s=0.05,
    notes=("Everything is lost when the process ends.",),
)


class MemoryStore:
    """`Store` in the memory of one process. Several nodes of the process may share one."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._revision = 0
        self._entries: dict[str, Entry] = {}
        self._keys: list[str] = []  # those of `_entries`, sorted: Python compares str by code points
        self._tokens: dict[str, int] = {}  # the latest committed under each fence
        self._leases = Leases()
        self._watches: dict[MemoryWatch, None] = {}  # a dict keeps the order of wake-ups repeatable
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def guarantees(self) -> StoreGuarantees:
        return _GUARANTEES

    async def get(self, key: str) -> Entry | None:
        validate_key(key, _GUARANTEES.max_key_bytes)
        self.refresh()
        return self._entries.get(key)

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        validate_scan(prefix, after, limit)
        self.refresh()
        entries: list[Entry] = []
        for entry in self._under(prefix, after):
            if len(entries) == limit:
                return Page(tuple(entries), self._revision, more=True)
            entries.append(entry)
        return Page(tuple(entries), self._revision, more=False)

    async def commit(self, commit: Commit) -> int:
        validate_commit(commit, _GUARANTEES)
        # Writers of a real engine interleave. A turn of the loop lets them do so here as well, and a
        # caller that is cancelled meanwhile has written nothing.
        await asyncio.sleep(0)
        self.refresh()
        self._demand(commit)
        for fence in commit.fences:
            self._tokens[fence.name] = max(fence.token, self._tokens.get(fence.name, 0))
        return self._write(commit)

    async def grant(self, ttl_s: float) -> int:
        validate_ttl(ttl_s, _GUARANTEES)
        self.refresh()
        lease = self._leases.grant(ttl_s, self._clock.monotonic())
        self._set_timer()
        return lease

    async def renew(self, lease: int) -> None:
        self.refresh()
        self._leases.renew(lease, self._clock.monotonic())

    async def revoke(self, lease: int) -> None:
        self.refresh()
        self._end(lease)

    def watch(self, prefix: str) -> Watch:
        validate_prefix(prefix)
        return MemoryWatch(self, prefix)

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for watch in self._watches:
            watch.wake()
        self._watches.clear()

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters for `Engine.statistics`."""
        return {
            "store_revision": self._revision,
            "store_keys": len(self._keys),
            "store_leases": len(self._leases),
            "store_watches": len(self._watches),
        }

    # What follows is for the watches as well.

    def refresh(self) -> None:
        """Raise `Unavailable` if the store is closed, and end the leases whose time is over.

        Every call begins with it, so no entry is seen after its lease's time, however late the timer.
        """
        if self._closed:
            raise Unavailable("the store is closed", outcome=Outcome.NOT_APPLIED)
        now = self._clock.monotonic()
        if now >= self._leases.next_expiry:
            for lease in self._leases.due(now):
                self._end(lease)

    def follow(self, watch: MemoryWatch) -> None:
        """Offer every later commit to `watch`."""
        self._watches[watch] = None

    def unfollow(self, watch: MemoryWatch) -> None:
        """Offer no more commits to `watch`."""
        self._watches.pop(watch, None)

    def snapshot(self, prefix: str) -> Batch:
        """Return every entry under `prefix` as it is now."""
        changes = (Change(entry.key, entry.value, entry.version) for entry in self._under(prefix))
        return Batch(self._revision, tuple(changes), snapshot=True)

    def _under(self, prefix: str, after: str = "") -> Iterator[Entry]:
        keys = self._keys
        for index in range(max(bisect_left(keys, prefix), bisect_right(keys, after)), len(keys)):
            if not keys[index].startswith(prefix):
                return
            yield self._entries[keys[index]]

    def _demand(self, commit: Commit) -> None:
        for fence in commit.fences:
            latest = self._tokens.get(fence.name, 0)
            if fence.token < latest:
                raise Fenced(f"the fence {fence.name!r} has seen token {latest}, later than {fence.token}")
        for check in commit.checks:
            entry = self._entries.get(check.key)
            version = ABSENT if entry is None else entry.version
            if version != check.version:
                raise Conflict(f"{check.key!r} is at version {version}, not {check.version}")
        for put in commit.puts:
            if put.lease and put.lease not in self._leases:
                raise lease_lost(put.lease)

    def _write(self, commit: Commit) -> int:
        deleted = [key for key in commit.deletes if key in self._entries]
        if not commit.puts and not deleted:
            return self._revision
        self._revision += 1
        changes = []
        for put in commit.puts:
            self._place(Entry(put.key, put.value, self._revision, put.lease))
            changes.append(Change(put.key, put.value, self._revision))
        self._publish(changes + self._remove(deleted))
        return self._revision

    def _place(self, entry: Entry) -> None:
        known = self._entries.get(entry.key)
        if known is None:
            insort(self._keys, entry.key)
        elif known.lease:
            self._leases.detach(known.lease, entry.key)
        self._entries[entry.key] = entry
        if entry.lease:
            self._leases.attach(entry.lease, entry.key)

    def _remove(self, keys: Iterable[str]) -> list[Change]:
        changes = []
        for key in keys:
            lease = self._entries.pop(key).lease
            if lease:
                self._leases.detach(lease, key)
            del self._keys[bisect_left(self._keys, key)]
            changes.append(Change(key, None, self._revision))
        return changes

    def _publish(self, changes: list[Change]) -> None:
        for watch in self._watches:
            relevant = tuple(change for change in changes if change.key.startswith(watch.prefix))
            if relevant:
                watch.offer(Batch(self._revision, relevant))

    def _end(self, lease: int) -> None:
        keys = self._leases.pop(lease)
        if keys:
            self._revision += 1
            self._publish(self._remove(keys))

    def _set_timer(self) -> None:
        """Run at the next expiry; one timer serves all leases."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not len(self._leases):
            return
        delay_s = self._leases.next_expiry - self._clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(max(delay_s, 0.001), self._on_timer)

    def _on_timer(self) -> None:
        self.refresh()
        self._set_timer()
