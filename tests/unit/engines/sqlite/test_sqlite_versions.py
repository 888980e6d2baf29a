"""The versions that the writer keeps in memory are those of the file, whatever happens to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from coterie.engines.sqlite import batch as batch_module
from coterie.engines.sqlite.batch import Applier
from coterie.engines.sqlite.config import SqliteConfig
from coterie.engines.sqlite.operations import DoCommit, Expire, Failed, Grant, Operation, Result, Revoke
from coterie.engines.sqlite.schema import connect, prepare
from coterie.engines.system import SystemClock
from coterie.ports.store import Check, Commit, Put


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    config = SqliteConfig(path=tmp_path / "versions.db")
    prepare(config)
    with closing(connect(config, writer=True)) as opened:
        yield opened


@pytest.fixture
def applier(connection: sqlite3.Connection) -> Applier:
    return Applier(connection, SystemClock(), "this boot")


def apply(applier: Applier, *operations: Operation) -> list[Result]:
    return applier.apply(operations, lambda _results: ()).results


def put(key: str, expect: int | None = None, *, lease: int = 0) -> DoCommit:
    checks = () if expect is None else (Check(key, expect),)
    return DoCommit(Commit((Put(key, b"value", lease),), (), checks))


def delete(*keys: str) -> DoCommit:
    return DoCommit(Commit((), keys))


def fail(_results: Sequence[Result]) -> Sequence[tuple[str, bytes]]:
    raise sqlite3.OperationalError("the disk is full")


def in_file(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT key, version FROM kv"))


def test_a_check_sees_the_put_before_it_in_the_same_batch(applier: Applier) -> None:
    first, second, stale = apply(applier, put("a"), put("a", 1), put("a", 1))
    assert (first, second) == (1, 2)
    assert isinstance(stale, Failed)


def test_what_was_rolled_back_has_its_old_version(applier: Applier, connection: sqlite3.Connection) -> None:
    apply(applier, put("a"), put("gone"))
    with pytest.raises(sqlite3.OperationalError):
        applier.apply([put("a"), put("new"), delete("gone")], fail)
    assert in_file(connection) == {"a": 1, "gone": 2}
    assert apply(applier, put("a", 1), put("gone", 2), put("new", 0)) == [3, 4, 5]


def test_the_entries_of_an_ended_lease_are_absent(applier: Applier) -> None:
    (lease,) = apply(applier, Grant(60.0))
    assert isinstance(lease, int)
    apply(applier, put("a", 0, lease=lease))
    apply(applier, Revoke(lease), Expire())
    assert apply(applier, put("a", 0)) == [3]


def test_a_deleted_entry_is_absent_and_deleting_it_again_changes_nothing(
    applier: Applier, connection: sqlite3.Connection
) -> None:
    assert apply(applier, put("a"), delete("a"), delete("a"), put("a", 0)) == [1, 2, 2, 3]
    assert in_file(connection) == {"a": 3}


def test_only_what_a_commit_changed_is_told(applier: Applier) -> None:
    applied = applier.apply([put("a"), delete("a", "b"), delete("b")], lambda _results: ())
    told = [
        [(change.key, change.value, change.version) for change in changes] for _, changes in applied.changes()
    ]
    assert told == [[("a", b"value", 1)], [("a", None, 2)]]


def test_versions_that_were_forgotten_are_read_again(
    applier: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "_MAX_VERSIONS", 2)
    keys = [f"key-{number}" for number in range(10)]
    versions = {key: apply(applier, put(key, 0))[0] for key in keys}
    assert len(applier._versions) + len(applier._older_versions) <= 6
    for key in keys:
        version = versions[key]
        assert isinstance(version, int)
        stale, right = apply(applier, put(key, version + 100), put(key, version))
        assert isinstance(stale, Failed)
        assert isinstance(right, int)


def test_what_sqlite_refused_is_not_tried_again(applier: Applier, connection: sqlite3.Connection) -> None:
    refused = DoCommit(Commit((Put("a", cast("bytes", None)),)))
    with pytest.raises(sqlite3.IntegrityError):
        apply(applier, put("b"), refused)
    assert apply(applier, put("c")) == [1]
    assert in_file(connection) == {"c": 1}


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 21])
def test_however_many_puts_share_a_statement_the_file_has_each(
    applier: Applier, connection: sqlite3.Connection, count: int
) -> None:
    puts = [DoCommit(Commit((Put(f"key {n}", b"value %d" % n),))) for n in range(count)]
    apply(applier, *puts, DoCommit(Commit((Put("key 0", b"last"),))))
    rows = connection.execute("SELECT key, value, version, lease FROM kv").fetchall()
    expected = [("key 0", b"last", count + 1, 0)]
    expected += [(f"key {n}", b"value %d" % n, n + 1, 0) for n in range(1, count)]
    assert sorted(rows) == sorted(expected)
