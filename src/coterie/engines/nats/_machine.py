"""The store as a state machine: every client applies the messages of one stream, in order, to one of these.

Whether a commit passes its checks is decided here, by the order of the stream alone, so that all clients
agree without asking each other (Schneider, "Implementing fault-tolerant services using the state machine
approach", 1990). Pure: the time is that of the message, given by the server that stored it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any

import msgspec

from ...errors import Conflict, CoterieError, Fenced, LeaseLost
from ...ports.store import ABSENT, Batch, Change, Commit, Entry, Page

__all__ = ["DoCommit", "Envelope", "Fence", "Grant", "Machine", "Operation", "Renew", "Revoke"]

_MAX_RECENT = 8192
"""How many messages are known by their ids. A client repeats one within seconds, or gives it up."""


class DoCommit(msgspec.Struct, tag="c", array_like=True, frozen=True, gc=False):
    """Commit."""

    commit: Commit


class Grant(msgspec.Struct, tag="g", array_like=True, frozen=True, gc=False):
    """Create a lease."""

    ttl_ns: int


class Renew(msgspec.Struct, tag="n", array_like=True, frozen=True, gc=False):
    """Renew a lease."""

    lease: int


class Revoke(msgspec.Struct, tag="r", array_like=True, frozen=True, gc=False):
    """End a lease."""

    lease: int


class Fence(msgspec.Struct, tag="f", array_like=True, frozen=True, gc=False):
    """Do nothing: who sees it applied has seen everything that was acknowledged before it was sent."""


Operation = DoCommit | Grant | Renew | Revoke | Fence


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message of the stream. One with an id that was applied before is a repetition and does nothing."""

    id: str
    operations: tuple[Operation, ...]


class _Lease(msgspec.Struct, array_like=True):
    ttl_ns: int
    ends_ns: int
    keys: list[str]


class _Image(msgspec.Struct, array_like=True):
    """All of a machine."""

    revision: int
    now_ns: int
    last_lease: int
    entries: list[tuple[str, bytes, int, int]]
    tokens: dict[str, int]
    leases: dict[int, _Lease]
    recent: list[str]


Commits = list[tuple[int, tuple[Change, ...]]]


class Machine:
    """The state after some first part of the stream."""

    def __init__(self) -> None:
        self.revision = 0
        self.now_ns = 0
        """The time of the last message, which never goes back."""
        self.next_end_ns: float = math.inf
        """A time before which no lease ends."""
        self._last_lease = 0
        self._entries: dict[str, Entry] = {}
        self._keys: list[str] = []
        self._tokens: dict[str, int] = {}
        self._leases: dict[int, _Lease] = {}
        self._recent: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    # Reading

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def scan(self, prefix: str, after: str, limit: int) -> Page:
        entries: list[Entry] = []
        for entry in self._under(prefix, after):
            if len(entries) == limit:
                return Page(tuple(entries), self.revision, more=True)
            entries.append(entry)
        return Page(tuple(entries), self.revision, more=False)

    def snapshot(self, prefix: str) -> Batch:
        changes = (Change(entry.key, entry.value, entry.version) for entry in self._under(prefix, ""))
        return Batch(self.revision, tuple(changes), snapshot=True)

    def _under(self, prefix: str, after: str) -> Iterator[Entry]:
        keys = self._keys
        for index in range(max(bisect_left(keys, prefix), bisect_right(keys, after)), len(keys)):
            if not keys[index].startswith(prefix):
                return
            yield self._entries[keys[index]]

    # Applying

    def apply(self, envelope: Envelope, time_ns: int) -> tuple[list[int | CoterieError], Commits]:
        """Apply a message; return the results of its operations, and the commits that came of it.

        A repetition has no results. An operation that is refused has an error in place of a result.
        """
        commits: Commits = []
        self.now_ns = max(self.now_ns, time_ns)
        if self.now_ns >= self.next_end_ns:
            self._end_due(commits)
        if envelope.id in self._recent:
            return [], commits
        self._recent[envelope.id] = None
        if len(self._recent) > _MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        return [self._do(operation, commits) for operation in envelope.operations], commits

    def _do(self, operation: Operation, commits: Commits) -> int | CoterieError:
        match operation:
            case DoCommit(commit):
                return self._refusal(commit) or self._commit(commit, commits)
            case Grant(ttl_ns):
                self._last_lease += 1
                ends_ns = self.now_ns + ttl_ns
                self._leases[self._last_lease] = _Lease(ttl_ns, ends_ns, [])
                self.next_end_ns = min(self.next_end_ns, ends_ns)
                return self._last_lease
            case Renew(lease):
                known = self._leases.get(lease)
                if known is None:
                    return _lease_lost(lease)
                known.ends_ns = self.now_ns + known.ttl_ns
            case Revoke(lease):
                self._end(lease, commits)
            case Fence():
                pass
        return self.revision

    def _refusal(self, commit: Commit) -> CoterieError | None:
        for fence in commit.fences:
            latest = self._tokens.get(fence.name)
            if latest is not None and fence.token < latest:
                return Fenced(f"the fence {fence.name!r} has seen token {latest}, later than {fence.token}")
        for check in commit.checks:
            entry = self._entries.get(check.key)
            version = ABSENT if entry is None else entry.version
            if version != check.version:
                return Conflict(f"{check.key!r} is at version {version}, not {check.version}")
        for put in commit.puts:
            if put.lease and put.lease not in self._leases:
                return _lease_lost(put.lease)
        return None

    def _commit(self, commit: Commit, commits: Commits) -> int:
        for fence in commit.fences:
            self._tokens[fence.name] = max(fence.token, self._tokens.get(fence.name, fence.token))
        deleted = [key for key in commit.deletes if key in self._entries]
        if not commit.puts and not deleted:
            return self.revision
        self.revision += 1
        changes = []
        for put in commit.puts:
            self._place(Entry(put.key, put.value, self.revision, put.lease))
            changes.append(Change(put.key, put.value, self.revision))
        for key in deleted:
            self._remove(key)
            changes.append(Change(key, None, self.revision))
        commits.append((self.revision, tuple(changes)))
        return self.revision

    def _place(self, entry: Entry) -> None:
        known = self._entries.get(entry.key)
        if known is None:
            insort(self._keys, entry.key)
        elif known.lease:
            self._leases[known.lease].keys.remove(entry.key)
        self._entries[entry.key] = entry
        if entry.lease:
            self._leases[entry.lease].keys.append(entry.key)

    def _remove(self, key: str) -> None:
        lease = self._entries.pop(key).lease
        if lease:
            self._leases[lease].keys.remove(key)
        del self._keys[bisect_left(self._keys, key)]

    def _end(self, lease: int, commits: Commits) -> None:
        known = self._leases.get(lease)
        if known is None:
            return
        keys = tuple(known.keys)
        if keys:
            self.revision += 1
            for key in keys:
                self._remove(key)
            commits.append((self.revision, tuple(Change(key, None, self.revision) for key in keys)))
        del self._leases[lease]

    def _end_due(self, commits: Commits) -> None:
        due = [(lease.ends_ns, id_) for id_, lease in self._leases.items() if lease.ends_ns <= self.now_ns]
        for _ends_ns, id_ in sorted(due):
            self._end(id_, commits)
        self.next_end_ns = min((lease.ends_ns for lease in self._leases.values()), default=math.inf)

    # Images

    def image(self) -> bytes:
        """Return all of the state as bytes."""
        entries = [(entry.key, entry.value, entry.version, entry.lease) for entry in self._under("", "")]
        return msgspec.msgpack.encode(
            _Image(
                self.revision,
                self.now_ns,
                self._last_lease,
                entries,
                self._tokens,
                self._leases,
                list(self._recent),
            )
        )

    @classmethod
    def from_image(cls, data: bytes) -> Machine:
        """Return the machine that `image` was called on. Raises msgspec's errors for anything else."""
        image = msgspec.msgpack.decode(data, type=_Image)
        machine = cls()
        machine.revision, machine.now_ns, machine._last_lease = image.revision, image.now_ns, image.last_lease
        machine._entries = {row[0]: Entry(*row) for row in image.entries}
        machine._keys = [row[0] for row in image.entries]
        machine._tokens, machine._leases = image.tokens, image.leases
        machine._recent = dict.fromkeys(image.recent)
        machine.next_end_ns = min((lease.ends_ns for lease in image.leases.values()), default=math.inf)
        return machine

    def statistics(self) -> dict[str, Any]:
        """Return counters for `Engine.statistics`."""
        return {
            "store_revision": self.revision,
            "store_keys": len(self._keys),
            "store_leases": len(self._leases),
        }


def _lease_lost(lease: int) -> LeaseLost:
    return LeaseLost(f"the lease {lease} has ended", hint="grant a new one and write its entries again")
