"""The file: how it is opened, what is in it, and how it is told apart from others."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ...errors import CorruptData, InvalidConfiguration, Outcome, Unavailable
from .config import SqliteConfig

__all__ = ["connect", "foreign", "prepare"]

APPLICATION_ID = 0x436F7465  # "Cote"
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL,
  version INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX kv_lease ON kv (lease) WHERE lease != 0;
CREATE TABLE fences (name TEXT PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl_s REAL NOT NULL, ends REAL NOT NULL);
CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL);
CREATE TABLE bounds (topic INTEGER, partition INTEGER, first INTEGER NOT NULL, next INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE records (topic INTEGER, partition INTEGER, offset INTEGER,
  time REAL NOT NULL, record BLOB NOT NULL, PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID;
CREATE TABLE sessions (id TEXT PRIMARY KEY, seen REAL NOT NULL, outcomes BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('revision', 0), ('next_lease', 1), ('next_topic', 1), ('boot', '');
"""
# `ends` of a lease is in seconds since the boot that meta.boot names, `seen` of a session by the monotonic
# clock of that boot. A topic's id is never used again, so that readers of a deleted topic never see the
# records of one that was made anew.


def connect(config: SqliteConfig, *, writer: bool) -> sqlite3.Connection:
    """Open a connection. Raises `CorruptData`, `InvalidConfiguration` or `Unavailable`."""
    try:
        # A plain path, not a URI: no character of it means anything to SQLite.
        connection = sqlite3.connect(
            str(config.path),
            isolation_level=None,
            check_same_thread=not writer,
            cached_statements=64,
            timeout=5,
        )
    except sqlite3.Error as error:
        raise InvalidConfiguration(
            f"{config.path} cannot be opened: {error}", hint=_why_not(config.path)
        ) from error
    try:
        if writer:
            connection.execute(f"PRAGMA synchronous = {config.synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 1000")
            connection.execute("PRAGMA journal_size_limit = 67108864")
        else:
            connection.execute("PRAGMA query_only = 1")
        connection.execute("PRAGMA cache_size = -16384")
    except sqlite3.Error as error:
        connection.close()
        raise foreign(error, config.path) from error
    return connection


def prepare(config: SqliteConfig) -> None:
    """Create the file if there is none, and make sure that it is one of ours. Needs the writer role."""
    path = config.path
    if path.is_dir():
        raise InvalidConfiguration(f"{path} is a folder, not a file", hint="name a file in it")
    if path.exists() and path.stat().st_size:
        _look(path)
    with closing(connect(config, writer=True)) as connection:
        try:
            if _is_ours(connection, path):
                return
            # Created empty, then everything in one transaction: a crash leaves all of it or nothing.
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise InvalidConfiguration(
                    f"{path} cannot use a write-ahead log (its mode is {mode})",
                    hint="network file systems cannot: use a local disk",
                )
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        except sqlite3.Error as error:
            raise foreign(error, path) from error


def _look(path: Path) -> None:
    """Refuse a file that is not ours before SQLite opens it in earnest, which might change it.

    An immutable file is neither locked nor recovered. It is not read with `open`: to close any
    descriptor of a file drops all locks that this process has on it, and those of a connection that
    reads it keep other processes from deleting the log that is written.
    """
    try:
        address = f"file:{quote(str(path))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            _is_ours(connection, path)
    except sqlite3.OperationalError as error:
        raise InvalidConfiguration(
            f"{path} cannot be read: {error}", hint="may this user read it?"
        ) from error
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname.startswith("SQLITE_CORRUPT"):
            return  # Or its writer died in a checkpoint, and the log, which was not looked at, mends it.
        raise CorruptData(
            f"{path} is no SQLite database, or a damaged one; it was left as it is ({error})",
            hint="restore it from a backup, or name another file",
        ) from error


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether our tables are in the file; raises if others are, or ours of a newer version."""
    application, version, tables = (
        connection.execute(question).fetchone()[0]
        for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    if application != APPLICATION_ID:
        if application == 0 and version == 0 and tables == 0:
            return False  # What a crash leaves right after the file was created.
        raise InvalidConfiguration(
            f"{path} is a database of another program; it was left as it is", hint="name another file"
        )
    if version > SCHEMA_VERSION:
        raise CorruptData(
            f"{path} was written by a newer Coterie (format {version}, this one knows {SCHEMA_VERSION})",
            hint="upgrade Coterie on this machine; the file was left as it is",
        )
    return True


def _why_not(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    return "may this user write in its folder?"


def foreign(error: sqlite3.Error, path: Path) -> CorruptData | Unavailable:
    """Return SQLite's `error` as ours. Whatever failed was rolled back, unless it was an I/O error."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptData(f"{path} is damaged: {error}", hint="restore it from a backup")
    if name.startswith("SQLITE_FULL"):
        return Unavailable(
            f"the disk of {path} is full: nothing was written",
            hint="make room; the next commit succeeds then",
            outcome=Outcome.NOT_APPLIED,
        )
    if name.startswith("SQLITE_IOERR"):
        return Unavailable(f"the disk of {path} failed: {error}", outcome=Outcome.UNKNOWN)
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return Unavailable(f"{path} cannot be written: {error}", outcome=Outcome.NOT_APPLIED)
    return Unavailable(f"{path}: {error}", outcome=Outcome.NOT_APPLIED)
