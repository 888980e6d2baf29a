"""The store as a state machine: every client applies the messages of one stream, in order, to one of these.

Whether a commit passes its checks is decided here, by the order of the stream alone, so that all clients
agree without asking each other (Schneider, "Implementing fault-tolerant services using the state machine
approach", 1990). A message that is stored twice is applied once: each client numbers its messages, and says
with each what its oldest unfinished one is (Lee et al., "Implementing linearizability at large scale and low
latency", 2015).

Pure, and without time. A lease ends by a message too: see `End`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ...errors import Conflict, CoterieError, Fenced, LeaseLost
from ...ports.store import ABSENT, Batch, Change, Commit, Entry, Page

__all__ = [
    "Applied",
    "Barrier",
    "DoCommit",
    "End",
    "Envelope",
    "Grant",
    "Lease",
    "Machine",
    "Operation",
    "Renew",
    "Revoke",
]

_MAX_SESSIONS = 4096
"""How many clients have their numbers remembered: those that wrote last."""


class DoCommit(msgspec.Struct, tag="c", array_like=True, frozen=True, gc=False):
    """Commit."""

    commit: Commit


class Grant(msgspec.Struct, tag="g", array_like=True, frozen=True, gc=False):
    """Create a lease."""

    ttl_ms: int


class Renew(msgspec.Struct, tag="n", array_like=True, frozen=True, gc=False):
    """Renew a lease."""

    lease: int


class Revoke(msgspec.Struct, tag="r", array_like=True, frozen=True, gc=False):
    """End a lease."""

    lease: int


class End(msgspec.Struct, tag="e", array_like=True, frozen=True, gc=False):
    """End a lease, unless it was renewed more than `renewals` times.

    Any client asks for this when by its own clock the lease's time has passed since it applied that renewal.
    So no lease ends before its time, whatever the members believe the time to be.
    """

    lease: int
    renewals: int


class Barrier(msgspec.Struct, tag="f", array_like=True, frozen=True, gc=False):
    """Do nothing: who sees it applied has seen everything that was acknowledged before it was sent."""


Operation = DoCommit | Grant | Renew | Revoke | End | Barrier


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message of the stream: the `number`th of a client, which has finished with all before `oldest`.

    Those with the number 0 may be applied any number of times.
    """

    client: str
    number: int
    oldest: int
    operations: tuple[Operation, ...]


class Lease(msgspec.Struct, array_like=True):
    """A lease that is alive, and the keys that vanish with it."""

    ttl_ms: int
    renewals: int
    keys: dict[str, None]


class _Session(msgspec.Struct, array_like=True):
    oldest: int
    done: list[int]
    """Numbers from `oldest` on that were applied; a client has a few unfinished ones at most."""


class _Image(msgspec.Struct, array_like=True):
    """All of a machine."""

    revision: int
    last_lease: int
    entries: list[tuple[str, bytes, int, int]]
    tokens: dict[str, int]
    leases: dict[int, Lease]
    sessions: dict[str, _Session]


class Applied(NamedTuple):
    """What came of a message: a result or error of each operation, unless it was a repetition; the commits,
    as revisions and changes; and the leases that were granted or renewed.
    """

    results: list[int | CoterieError]
    commits: list[tuple[int, tuple[Change, ...]]]
    renewed: list[int]


class Machine:
    """The state after some first part of the stream."""

    def __init__(self) -> None:
        self.revision: int = 0
        self.leases: dict[int, Lease] = {}
        self._last_lease = 0
        self._entries: dict[str, Entry] = {}
        self._keys: list[str] = []
        self._tokens: dict[str, int] = {}
        self._sessions: dict[str, _Session] = {}

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

    def apply(self, envelope: Envelope) -> Applied:
        """Apply a message, unless it was applied before."""
        applied = Applied([], [], [])
        if envelope.number == 0 or self._is_new(envelope):
            for operation in envelope.operations:
                applied.results.append(self._do(operation, applied))
        return applied

    def _is_new(self, envelope: Envelope) -> bool:
        number, oldest = envelope.number, envelope.oldest
        session = self._sessions.pop(envelope.client, None)
        if session is None:
            session = _Session(0, [])
            if len(self._sessions) >= _MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        self._sessions[envelope.client] = session  # behind the others: it wrote last
        if oldest > session.oldest:
            session.oldest = oldest
            session.done = [known for known in session.done if known >= oldest]
        if number < session.oldest or number in session.done:
            return False
        session.done.append(number)
        return True

    def _do(self, operation: Operation, applied: Applied) -> int | CoterieError:
        match operation:
            case DoCommit(commit):
                return self._refusal(commit) or self._commit(commit, applied)
            case Grant(ttl_ms):
                self._last_lease += 1
                self.leases[self._last_lease] = Lease(ttl_ms, 0, {})
                applied.renewed.append(self._last_lease)
                return self._last_lease
            case Renew(lease):
                known = self.leases.get(lease)
                if known is None:
                    return _lease_lost(lease)
                known.renewals += 1
                applied.renewed.append(lease)
            case Revoke(lease):
                self._end(lease, applied)
            case End(lease, renewals):
                known = self.leases.get(lease)
                if known is not None and known.renewals == renewals:
                    self._end(lease, applied)
            case Barrier():
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
            if put.lease and put.lease not in self.leases:
                return _lease_lost(put.lease)
        return None

    def _commit(self, commit: Commit, applied: Applied) -> int:
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
        applied.commits.append((self.revision, tuple(changes)))
        return self.revision

    def _place(self, entry: Entry) -> None:
        known = self._entries.get(entry.key)
        if known is None:
            insort(self._keys, entry.key)
        elif known.lease:
            self.leases[known.lease].keys.pop(entry.key)
        self._entries[entry.key] = entry
        if entry.lease:
            self.leases[entry.lease].keys[entry.key] = None

    def _remove(self, key: str) -> None:
        lease = self._entries.pop(key).lease
        if lease:
            self.leases[lease].keys.pop(key)
        del self._keys[bisect_left(self._keys, key)]

    def _end(self, lease: int, applied: Applied) -> None:
        known = self.leases.get(lease)
        if known is None:
            return
        if known.keys:
            self.revision += 1
            changes = tuple(Change(key, None, self.revision) for key in known.keys)
            for change in changes:
                self._remove(change.key)
            applied.commits.append((self.revision, changes))
        del self.leases[lease]

    # Images

    def image(self) -> bytes:
        """Return all of the state as bytes."""
        entries = [(entry.key, entry.value, entry.version, entry.lease) for entry in self._under("", "")]
        image = _Image(self.revision, self._last_lease, entries, self._tokens, self.leases, self._sessions)
        return msgspec.msgpack.encode(image)

    @classmethod
    def from_image(cls, data: bytes) -> Machine:
        """Return the machine that `image` was called on. Raises msgspec's errors for anything else."""
        image = msgspec.msgpack.decode(data, type=_Image)
        machine = cls()
        machine.revision, machine._last_lease = image.revision, image.last_lease
        machine._entries = {row[0]: Entry(*row) for row in image.entries}
        machine._keys = [row[0] for row in image.entries]
        machine._tokens, machine.leases, machine._sessions = image.tokens, image.leases, image.sessions
        return machine

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters for `Engine.statistics`."""
        return {
            "store_revision": self.revision,
            "store_keys": len(self._keys),
            "store_leases": len(self.leases),
        }


def _lease_lost(lease: int) -> LeaseLost:
    return LeaseLost(f"the lease {lease} has ended", hint="grant a new one and write its entries again")
