"""What happened in a universe, as its clients and nodes saw it: the evidence that promises are held to.

Every value that a map is given carries the number of its write from here on, so that no two writes
are the same and a read says which of them it saw. Nobody in the program sees the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ...errors import CoterieError, Outcome
from ...history import Interval
from ...history.operations import show
from ...ports.store import ABSENT, Commit, Entry, Put
from ...ports.wire import Failure
from ...resilience import Rate
from ..environment import Stretch
from .evidence import (
    Acquired,
    Call,
    Committed,
    FencedWrite,
    Keyed,
    Noted,
    Passed,
    Ran,
    Rated,
    Reserved,
    Scanned,
    Seen,
    Streamed,
)

__all__ = ["DELETED", "TAG_BYTES", "Notebook"]

T = TypeVar("T")

TAG_BYTES = 8
DELETED = 0
"""The number of every deletion."""
_SHOWN = 40
"""How many characters of a value are shown."""


class Notebook:
    """Collects what the recorded stores and wires of one universe report.

    `clock` returns nanoseconds of true time. At most `limit` operations are noted; then `full` is set.
    """

    def __init__(self, app: str, clock: Callable[[], int], *, limit: int = 500_000) -> None:
        self.prefix: str = f"{app}/map/"
        self.operations: list[Noted] = []
        """Reads and writes of single entries."""
        self.commits: list[Committed] = []
        self.seen: list[Seen] = []
        self.fenced: list[FencedWrite] = []
        self.scanned: list[Scanned] = []
        self.calls: list[Call] = []
        self.streams: list[Streamed] = []
        self.keyed: dict[tuple[str, str], Keyed] = {}
        """By method and idempotency key."""
        self.acquired: list[Acquired] = []
        self.reserved: list[Reserved] = []
        self.ran: list[Ran] = []
        self.over: dict[tuple[str, float], int] = {}
        """By job and tick, the revision at which the Store first had it that its run is over."""
        self.rated: dict[tuple[str, str], Rated] = {}
        """By rate limit and key."""
        self.clocks: Mapping[str, Sequence[Stretch]] = {}
        """How far the wall clocks of hosts were off, once the universe is over."""
        self.labels: dict[int, str] = {DELETED: "deleted"}
        """The text of every write by its number: the value, and the number."""
        self.versions: dict[str, dict[int, int]] = {}
        """Which write gave a key which version, as far as anyone has learnt it."""
        self.contradictions: list[str] = []
        self.witness: tuple[Interval, ...] = ()
        """What shows the promise to be broken, once that is known."""
        self.full_at: int | None = None
        """The position from which on something may be missing."""
        self.busy: int = 0
        """How many operations of clients and handlers of nodes are under way."""
        self.activity: int = 0
        """Rises whenever one of them begins or ends."""
        self._clock = clock
        self._limit = limit
        self._position = 0
        self._writes = 0
        self._passes = 0
        self._found = 0
        self._read: tuple[int, dict[str, int], set[str]] = (-1, {}, set())

    @property
    def full(self) -> bool:
        """Whether something is missing."""
        return self.full_at is not None

    def _lacks_room(self) -> None:
        if self.full_at is None:
            self.full_at = self._position

    def _next(self) -> int:
        self._position += 1
        return self._position

    # Operations.

    def begin(self, host: str, f: str, key: str | None, argument: Any = None) -> Noted:
        """Note that `host` begins an operation."""
        return Noted(host, f, key, argument, self._next(), self._clock())

    def ok(self, noted: Noted, result: Any = None) -> None:
        """Note that an operation has happened."""
        noted.result, noted.outcome = result, "ok"
        noted.end, noted.end_ns = self._next(), self._clock()

    def error(self, noted: Noted, error: BaseException) -> None:
        """Note that an operation has failed, or that nobody knows."""
        certain = isinstance(error, CoterieError | Failure) and error.outcome is Outcome.NOT_APPLIED
        noted.outcome = "fail" if certain else "unknown"
        noted.end, noted.end_ns = self._next(), self._clock()
        noted.error = error.code if isinstance(error, Failure) else type(error).__name__

    def keep(self, noted: Noted) -> bool:
        """Say whether there is room for another operation, and take it in."""
        if len(self.operations) >= self._limit:
            self._lacks_room()
            return False
        self.operations.append(noted)
        return True

    def add(self, item: T, to: list[T]) -> None:
        """Take in `item` if there is room."""
        if len(to) < self._limit:
            to.append(item)
        else:
            self._lacks_room()

    def other(self) -> Iterator[Noted]:
        """Yield scans and streams, and what was given out by locks, sequences, schedules and rate limits."""
        yield from (each.noted for each in self.acquired)
        yield from (each.noted for each in self.reserved)
        yield from (each.noted for each in self.ran)
        yield from (each.noted for each in self.scanned)
        yield from (each.noted for each in self.streams)
        yield from (each.noted for rated in self.rated.values() for each in rated.passed)

    def call(self, host: str, method: str, target: str, *, quiet: bool) -> Call:
        """Note that `host` calls `method` at `target`."""
        call = Call(host, "call", method, None, self._next(), self._clock(), target=target, quiet=quiet)
        call.number = len(self.calls) + 1
        if len(self.calls) < self._limit:
            self.calls.append(call)
        else:
            self._lacks_room()
        return call

    def called(self, number: int) -> Call | None:
        """Return the call with this number."""
        return self.calls[number - 1] if 0 < number <= len(self.calls) else None

    def stream(self, host: str, method: str, target: str) -> Streamed:
        """Note that `host` asks `target` for a stream."""
        streamed = Streamed(self.begin(host, "stream", method), len(self.streams) + 1, target)
        self.add(streamed, self.streams)
        return streamed

    def streamed(self, number: int) -> Streamed | None:
        """Return the request for a stream with this number."""
        return self.streams[number - 1] if 0 < number <= len(self.streams) else None

    def under(self, method: str, key: str) -> Keyed:
        """Return what happened under an idempotency key."""
        return self.keyed.setdefault((method, key), Keyed())

    def is_over(self, job: str, due: float, revision: int) -> None:
        """Note that the Store has it that the run for a tick is over."""
        if (job, due) in self.over:
            return
        if len(self.over) < self._limit:
            self.over[job, due] = revision
        else:
            self._lacks_room()

    def asked(self, limit: str, key: str, rate: Rate, host: str, units: int) -> Rated:
        """Note that `host` asks for units of a rate limit; return all that happened under the key."""
        rated = self.rated.get((limit, key))
        if rated is None:
            rated = Rated(rate)
            if len(self.rated) < self._limit:
                self.rated[limit, key] = rated
            else:
                self._lacks_room()
        rated.hosts.add(host)
        rated.most = max(rated.most, units)
        return rated

    def let_through(self, rated: Rated, passed: Passed) -> None:
        """Note that units were given."""
        self._passes += 1
        if self._passes <= self._limit:
            rated.passed.append(passed)
        else:
            self._lacks_room()

    def found(self, scan: Scanned, key: str, version: int) -> None:
        """Note what a scan has found."""
        self._found += 1
        if self._found <= self._limit:
            scan.found.append((key, version))
            scan.until = self._position
        else:
            self._lacks_room()

    def scanned_all(self, scan: Scanned) -> None:
        """Note that a scan came to the end of the map."""
        scan.whole, scan.until = True, self._position

    def enter(self) -> None:
        """Something of the program is under way."""
        self.busy += 1
        self.activity += 1

    def leave(self) -> None:
        """It is so no more."""
        self.busy -= 1
        self.activity += 1

    def heard(self, host: str, since_ns: int) -> bool:
        """Return whether anything that `host` did was answered since a moment."""
        return any(
            noted.host == host and noted.outcome == "ok" and (noted.end_ns or 0) >= since_ns
            for each in (self.operations, self.calls)
            for noted in reversed(each)
        )

    def has_read(self, reads: dict[str, int], written: set[str]) -> None:
        """Take note of what a transaction has read, at the moment before it commits."""
        if written:  # Else there may be no commit, and its reads stand by themselves.
            self._read = (self._position, reads, written)

    def just_read(self, commit: Commit) -> dict[str, int]:
        """Return what the transaction that now begins to commit has read: nothing was noted in between."""
        position, reads, written = self._read
        if position != self._position or written != {*(put.key for put in commit.puts), *commit.deletes}:
            return {}
        self._read = (-1, {}, set())
        return reads

    # Values and their numbers.

    def name(self, key: str) -> str:
        """Return a key of the store as the program knows it: `map/key`."""
        return key[len(self.prefix) :]

    def tagged(self, put: Put) -> tuple[Put, int]:
        """Return `put` with its number on it, and the number."""
        self._writes += 1
        number = self._writes
        self.labels[number] = f"{_text(put.value)} (write {number})"
        return Put(put.key, put.value + number.to_bytes(TAG_BYTES, "big"), put.lease), number

    def learn(self, key: str, version: int, number: int) -> None:
        """Take note of which write made which version."""
        known = self.versions.setdefault(key, {})
        if known.setdefault(version, number) != number:
            one, other = self.labels[known[version]], self.labels.get(number, "something unknown")
            self.contradictions.append(
                f"version {version} of {show(self.name(key))} was {one} and then {other}"
            )

    def saw(self, entry: Entry) -> tuple[Entry, str]:
        """Return an entry without its number, and the text of the write that it is from."""
        number = int.from_bytes(entry.value[-TAG_BYTES:], "big")
        self.learn(entry.key, entry.version, number)
        label = self.labels.get(number) or f"{_text(entry.value)} (written by nobody)"
        return Entry(entry.key, entry.value[:-TAG_BYTES], entry.version, entry.lease), label

    def label(self, key: str, version: int) -> str | None:
        """Return the text of the write that made a version, or None for no entry; `KeyError` if unknown."""
        if version == ABSENT:
            return None
        number = self.versions[key][version]
        return None if number == DELETED else self.labels[number]

    # Commits.

    def prepare(self, host: str, commit: Commit) -> tuple[Commit, list[Noted], Committed]:
        """Note that `host` begins a commit; return what is to be committed in its place."""
        checks = {check.key: check.version for check in commit.checks if check.key.startswith(self.prefix)}
        puts: list[Put] = []
        written: list[tuple[str, int]] = []
        parts: list[Noted] = []
        for put in commit.puts:
            ours = put.key.startswith(self.prefix)
            tagged, number = self.tagged(put) if ours else (put, 0)
            puts.append(tagged)
            if ours:
                written.append((put.key, number))
                parts.append(self._write(host, put.key, self.labels[number], checks))
        for key in commit.deletes:
            if key.startswith(self.prefix):
                written.append((key, DELETED))
                parts.append(self._write(host, key, None, checks))
        changed = {key for key, _ in written}
        parts += [self.begin(host, "get", self.name(key)) for key in checks if key not in changed]
        whole = Committed(self.begin(host, "commit", None), list(checks.items()), written, parts)
        kept = [part for part in parts if self.keep(part)]
        if len(kept) == len(parts):
            self.commits.append(whole)
        return Commit(tuple(puts), commit.deletes, commit.checks, commit.fences), kept, whole

    def _write(self, host: str, key: str, label: str | None, checks: dict[str, int]) -> Noted:
        name = self.name(key)
        if key in checks:
            try:
                return self.begin(host, "cas", name, [self.label(key, checks[key]), label])
            except KeyError:
                pass  # The program has the version from elsewhere: then it is a write like any other.
        return self.begin(host, "put", name, label) if label is not None else self.begin(host, "delete", name)

    def committed(self, parts: list[Noted], whole: Committed, revision: int) -> None:
        """Note that a commit has happened."""
        for key, number in whole.writes:
            self.learn(key, revision, number)
        whole.revision = revision
        versions = dict(whole.reads)
        for part in parts:
            if part.f == "get":
                key = self.prefix + (part.key or "")
                try:
                    self.ok(part, self.label(key, versions[key]))
                except KeyError:
                    part.outcome = "unknown"
            else:
                self.ok(part)
        self.ok(whole.noted)

    def not_committed(self, parts: list[Noted], whole: Committed, error: BaseException) -> None:
        """Note that a commit has failed, or that nobody knows."""
        for part in parts:
            self.error(part, error)
        self.error(whole.noted, error)


def _text(value: bytes) -> str:
    try:
        return show(msgspec.msgpack.decode(value), _SHOWN)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return show(repr(value), _SHOWN)
