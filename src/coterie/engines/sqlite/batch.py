"""Applies a batch of operations to the file in one transaction. Runs on the writer thread.

An operation that is refused changes nothing and leaves the others alone: it is checked before it
writes. If the transaction itself fails, none of the batch was applied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...errors import Conflict, CoterieError, Fenced, LeaseLost, NotFound
from ...ports.clock import Clock
from ...ports.log import Record
from ...ports.store import ABSENT, Change, Fence, Put
from .operations import (
    Append,
    CreateTopic,
    DeleteTopic,
    DoCommit,
    Expire,
    Grant,
    Operation,
    Renew,
    Result,
    Revoke,
    Trim,
    failed,
)

__all__ = ["Applied", "Applier"]

_PUT = (
    "INSERT INTO kv VALUES {} ON CONFLICT (key) DO UPDATE"
    " SET value = excluded.value, version = excluded.version, lease = excluded.lease"
)
_ROW = "(?, ?, ?, ?)"
_COLUMNS = 4
_ROWS = 8
"""How many puts one statement makes. From 16 on, those of 16 pages do not fit into SQLite's memory of what
to undo if the statement fails (64 KiB), and it creates a temporary file for each."""
_PUT_ONE = _PUT.format(_ROW)
_PUT_ROWS = _PUT.format(", ".join([_ROW] * _ROWS))
_VERSION = "SELECT version FROM kv WHERE key = ?"
_MAX_VERSIONS = 8192
"""How many keys' versions each of the two generations in memory holds, but for those of one batch."""
_FENCE = (
    "INSERT INTO fences VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET token = max(token, excluded.token)"
)
_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Applied:
    """What a batch did: a result for each operation, and what watchers and waiting readers must learn."""

    results: list[Result] = field(default_factory=list)
    commits: list[tuple[int, Sequence[Put], Sequence[str]]] = field(default_factory=list)
    """The revision, what was put, and which keys went."""
    appended: dict[tuple[str, int], int] = field(default_factory=dict)
    """By topic and partition the next offset; -1 for a topic that was deleted."""
    next_expiry: float | None = None
    """When the first lease ends, in seconds since boot."""

    def changes(self) -> Iterator[tuple[int, tuple[Change, ...]]]:
        """Yield the revision and the changes of each commit. Only watchers need them, so only they pay."""
        for revision, puts, gone in self.commits:
            put = [Change(put.key, put.value, revision) for put in puts]
            yield revision, (*put, *(Change(key, None, revision) for key in gone))


@dataclass(slots=True)
class _Lease:
    ttl_s: float
    ends: float


class Applier:
    """Holds the writing connection, and in memory what would otherwise be read in every operation."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, boot: str) -> None:
        self._sql = connection
        self._execute = connection.execute
        self._clock = clock
        self._boot = boot
        self._applied = Applied()
        self._stale = True
        """Whether what is in memory may not be what the file has."""
        self._puts: list[str | bytes | int] = []
        """What waits for `_flush`: key, value, version and lease of each put, one after the other."""
        # The versions of the keys used last, 0 for an absent one, so that a compare-and-set of them costs
        # no query. Nobody else writes to the file while this process holds the writer role. A generation
        # that is full becomes the older one, and what nobody used since is forgotten with it.
        self._versions: dict[str, int] = {}
        self._older_versions: dict[str, int] = {}
        self._do: dict[type, Callable[[Any], Result]] = {
            DoCommit: self._commit,
            Grant: self._grant,
            Renew: self._renew,
            Revoke: self._revoke,
            Expire: self._expire,
            CreateTopic: self._create_topic,
            DeleteTopic: self._delete_topic,
            Append: self._append,
            Trim: self._trim,
        }
        self._load()

    def _load(self) -> None:
        self._puts.clear()
        self._versions.clear()
        self._older_versions.clear()
        meta = dict(self._execute("SELECT name, value FROM meta"))
        self._revision: int = meta["revision"]
        self._next_lease: int = meta["next_lease"]
        self._next_topic: int = meta["next_topic"]
        self._stored_revision = self._revision
        self._leases = {
            id_: _Lease(ttl_s, ends) for id_, ttl_s, ends in self._execute("SELECT * FROM leases")
        }
        self._topics: dict[str, tuple[int, int]] = {
            name: (id_, count)
            for id_, name, count in self._execute("SELECT id, name, partitions FROM topics")
        }
        self._ends: dict[tuple[int, int], int] = {
            (topic, partition): following
            for topic, partition, following in self._execute("SELECT topic, partition, next FROM bounds")
        }
        if meta["boot"] != self._boot:
            self._after_boot()
        self._stale = False

    def _after_boot(self) -> None:
        # Time since boot began anew, so what is left of each lease is not known: each gets its full time.
        now = self._clock.boottime()
        self._execute("BEGIN IMMEDIATE")
        self._execute("UPDATE leases SET ends = ? + ttl_s", (now,))
        self._execute("DELETE FROM sessions")  # No process outlived the boot.
        self._execute("UPDATE meta SET value = ? WHERE name = 'boot'", (self._boot,))
        self._execute("COMMIT")
        for lease in self._leases.values():
            lease.ends = now + lease.ttl_s

    def sessions(self) -> list[tuple[str, bytes]]:
        """Return what was answered, and perhaps not heard, by session."""
        return list(self._execute("SELECT id, outcomes FROM sessions"))

    def next_expiry(self) -> float | None:
        """Return when the first lease ends, in seconds since boot."""
        return min((lease.ends for lease in self._leases.values()), default=None)

    def apply(
        self,
        operations: Sequence[Operation],
        remember: Callable[[Sequence[Result]], Sequence[tuple[str, bytes]]] | None = None,
    ) -> Applied:
        """Apply `operations` in order, in one transaction.

        `remember` is given the results and returns the sessions to store with them, in the same
        transaction. Raises `sqlite3.Error` when nothing of the batch was applied.
        """
        applied = self._applied = Applied()
        if self._stale:
            self._load()
        if len(self._versions) > _MAX_VERSIONS:
            self._older_versions, self._versions = self._versions, {}
        try:
            self._execute("BEGIN IMMEDIATE")
            do, results = self._do, applied.results
            for operation in operations:
                try:
                    results.append(do[type(operation)](operation))
                except CoterieError as error:
                    results.append(failed(error))
            self._flush()
            if self._revision != self._stored_revision:
                self._execute("UPDATE meta SET value = ? WHERE name = 'revision'", (self._revision,))
            if remember is not None:
                self._store_sessions(remember(results))
            self._execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._stored_revision = self._revision
        applied.next_expiry = self.next_expiry()
        return applied

    def _roll_back(self) -> None:
        self._stale = True
        if self._sql.in_transaction:
            self._execute("ROLLBACK")
        self._load()

    def _store_sessions(self, sessions: Sequence[tuple[str, bytes]]) -> None:
        now = self._clock.monotonic()
        self._sql.executemany(
            "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", [(id_, now, blob) for id_, blob in sessions]
        )

    def forget_sessions(self, unseen_s: float) -> None:
        """Delete the sessions that did nothing for so long."""
        self._execute("DELETE FROM sessions WHERE seen < ?", (self._clock.monotonic() - unseen_s,))

    def _flush(self) -> None:
        """Give the puts to SQLite, several a statement: a third of the cost of one at a time."""
        columns = self._puts
        if columns:
            step = _COLUMNS * _ROWS
            whole = len(columns) // step * step
            for start in range(0, whole, step):
                self._execute(_PUT_ROWS, columns[start : start + step])
            rest = [columns[at : at + _COLUMNS] for at in range(whole, len(columns), _COLUMNS)]
            if rest:
                self._sql.executemany(_PUT_ONE, rest)
            columns.clear()

    # Keys

    def _commit(self, operation: DoCommit) -> int:
        commit = operation.commit
        puts, deletes = commit.puts, commit.deletes
        if commit.fences:
            self._check_fences(commit.fences)
        versions = self._versions
        for check in commit.checks:
            version = versions.get(check.key)
            if version is None:
                version = self._version(check.key)
            if version != check.version:
                raise Conflict(f"{check.key!r} is at version {version}, not {check.version}")
        for put in puts:
            if put.lease:
                self._live(put.lease)
        revision = self._revision + 1
        for put in puts:
            key = put.key
            self._puts += (key, put.value, revision, put.lease)
            versions[key] = revision
        gone = [key for key in deletes if self._delete(key)] if deletes else ()
        for fence in commit.fences:
            self._execute(_FENCE, (fence.name, fence.token))
        if puts or gone:
            self._revision = revision
            self._applied.commits.append((revision, puts, gone))
        return self._revision

    def _delete(self, key: str) -> bool:
        """Delete an entry; return whether there was one."""
        if not self._version(key):
            return False
        self._flush()
        self._execute("DELETE FROM kv WHERE key = ?", (key,))
        self._versions[key] = ABSENT
        return True

    def _version(self, key: str) -> int:
        version = self._versions.get(key)
        if version is None:
            version = self._older_versions.get(key)
            if version is None:
                # What waits to be put is among the versions, so the file knows the rest.
                row = self._execute(_VERSION, (key,)).fetchone()
                version = ABSENT if row is None else row[0]
            self._versions[key] = version
        return version

    def _check_fences(self, fences: Sequence[Fence]) -> None:
        for fence in fences:
            row = self._execute("SELECT token FROM fences WHERE name = ?", (fence.name,)).fetchone()
            if row is not None and row[0] > fence.token:
                raise Fenced(f"the fence {fence.name!r} has seen token {row[0]}, later than {fence.token}")

    # Leases

    def _live(self, id_: int) -> _Lease:
        lease = self._leases.get(id_)
        if lease is None or lease.ends <= self._clock.boottime():
            raise LeaseLost(f"the lease {id_} has ended", hint="grant a new one")
        return lease

    def _grant(self, operation: Grant) -> int:
        id_ = self._next_lease
        self._next_lease += 1
        ends = self._clock.boottime() + operation.ttl_s
        self._execute("UPDATE meta SET value = ? WHERE name = 'next_lease'", (self._next_lease,))
        self._execute("INSERT INTO leases VALUES (?, ?, ?)", (id_, operation.ttl_s, ends))
        self._leases[id_] = _Lease(operation.ttl_s, ends)
        return id_

    def _renew(self, operation: Renew) -> int:
        lease = self._live(operation.lease)
        lease.ends = self._clock.boottime() + lease.ttl_s
        self._execute("UPDATE leases SET ends = ? WHERE id = ?", (lease.ends, operation.lease))
        return 0

    def _revoke(self, operation: Revoke) -> int:
        self._end([operation.lease])
        return 0

    def _expire(self, _operation: Expire) -> int:
        now = self._clock.boottime()
        ended = [id_ for id_, lease in self._leases.items() if lease.ends <= now]
        self._end(ended)
        return len(ended)

    def _end(self, ids: Sequence[int]) -> None:
        self._flush()
        for id_ in ids:
            if self._leases.pop(id_, None) is None:
                continue
            self._execute("DELETE FROM leases WHERE id = ?", (id_,))
            keys = [
                row[0] for row in self._execute("SELECT key FROM kv WHERE lease = ? AND lease != 0", (id_,))
            ]
            if keys:
                self._revision += 1
                self._execute("DELETE FROM kv WHERE lease = ? AND lease != 0", (id_,))
                self._versions.update(dict.fromkeys(keys, ABSENT))
                self._applied.commits.append((self._revision, (), keys))

    # Topics

    def _topic(self, topic: str, partition: int) -> int:
        found = self._topics.get(topic)
        if found is None:
            raise NotFound(f"there is no topic {topic!r}", hint="create it first")
        if not 0 <= partition < found[1]:
            raise NotFound(f"the topic {topic!r} has partitions 0 to {found[1] - 1}, not {partition}")
        return found[0]

    def _create_topic(self, operation: CreateTopic) -> int:
        found = self._topics.get(operation.topic)
        if found is not None:
            if found[1] != operation.partitions:
                raise Conflict(
                    f"the topic {operation.topic!r} has {found[1]} partitions, not {operation.partitions}"
                )
            return 0
        id_: int = self._next_topic
        self._next_topic += 1
        self._execute("UPDATE meta SET value = ? WHERE name = 'next_topic'", (self._next_topic,))
        self._execute("INSERT INTO topics VALUES (?, ?, ?)", (id_, operation.topic, operation.partitions))
        bounds = [(id_, partition) for partition in range(operation.partitions)]
        self._sql.executemany("INSERT INTO bounds VALUES (?, ?, 0, 0)", bounds)
        self._ends.update(dict.fromkeys(bounds, 0))
        self._topics[operation.topic] = (id_, operation.partitions)
        return 0

    def _delete_topic(self, operation: DeleteTopic) -> int:
        found = self._topics.pop(operation.topic, None)
        if found is not None:
            id_, partitions = found
            for table in ("records", "bounds"):
                self._execute(f"DELETE FROM {table} WHERE topic = ?", (id_,))  # noqa: S608 - the names are above
            self._execute("DELETE FROM topics WHERE id = ?", (id_,))
            for partition in range(partitions):
                self._ends.pop((id_, partition), None)
                self._applied.appended[operation.topic, partition] = -1
        return 0

    def _append(self, operation: Append) -> int:
        place = (self._topic(operation.topic, operation.partition), operation.partition)
        offset: int = self._ends[place]
        now = self._clock.time()
        rows = [
            (*place, offset + index, now, _encode(record)) for index, record in enumerate(operation.records)
        ]
        self._sql.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
        following: int = offset + len(rows)
        self._execute("UPDATE bounds SET next = ? WHERE topic = ? AND partition = ?", (following, *place))
        self._ends[place] = following
        self._applied.appended[operation.topic, operation.partition] = following
        return following - 1

    def _trim(self, operation: Trim) -> int:
        place = (self._topic(operation.topic, operation.partition), operation.partition)
        before = min(operation.before, self._ends[place])
        self._execute(
            "DELETE FROM records WHERE topic = ? AND partition = ? AND offset < ?", (*place, before)
        )
        self._execute(
            "UPDATE bounds SET first = max(first, ?) WHERE topic = ? AND partition = ?", (before, *place)
        )
        return 0


RecordBlob: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
"""Decodes what `records.record` holds."""
