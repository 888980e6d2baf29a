"""The file itself: damaged, foreign, newer, half made, full."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_sample import opened, put, writer_of

from coterie.engines.sqlite import SqliteConfig
from coterie.engines.sqlite.schema import connect, prepare
from coterie.errors import CorruptData, CoterieError, InvalidConfiguration, Outcome, Unavailable

LATER = (2).to_bytes(4, "big")


@pytest.fixture
async def good(tmp_path: Path) -> bytes:
    """What a file of ours holds, closed in order."""
    async with opened(tmp_path / "good.db") as engine:
        await asyncio.gather(*(put(engine, f"key-{number}", bytes(200)) for number in range(100)))
    assert not (tmp_path / "good.db-wal").exists()
    return (tmp_path / "good.db").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda _: b"hello world\n" * 100, CorruptData, "no SQLite database"),
        (lambda _: b"??", CorruptData, "no SQLite database"),
        (lambda _: bytes(8192), CorruptData, "no SQLite database"),
        (lambda good: good[:50], CorruptData, "is damaged"),
        (lambda good: good[:5000], CorruptData, "is damaged"),
        (lambda good: good[: len(good) // 2], CorruptData, "is damaged"),
        (lambda good: good[:100] + b"\xa5" * (len(good) - 100), CorruptData, "is damaged"),
        (lambda good: good[:4096] + b"\xa5" * (len(good) - 4096), CorruptData, "is damaged"),
        (lambda good: good[:60] + LATER + good[64:], CorruptData, "upgrade Coterie"),
        (lambda good: good[:68] + LATER + good[72:], InvalidConfiguration, "another program"),
        (lambda good: good[:68] + bytes(4) + good[72:], InvalidConfiguration, "another program"),
    ],
    ids=[
        "text",
        "bytes",
        "zeros",
        "header",
        "page",
        "half",
        "garbled",
        "pages",
        "newer",
        "foreign",
        "unmarked",
    ],
)
async def test_a_file_that_cannot_be_ours_is_left_as_it_is(
    tmp_path: Path, good: bytes, spoil: Callable[[bytes], bytes], error: type[CoterieError], said: str
) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(spoil(good))
    with pytest.raises(error, match=said) as caught:
        async with opened(path):
            pass
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert path.read_bytes() == spoil(good)


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM meta WHERE name = 'revision'",
        "INSERT INTO sessions VALUES ('x', 1e300, x'c1')",
        "DROP TABLE topics",
    ],
)
async def test_a_file_of_ours_that_makes_no_sense_is_refused(tmp_path: Path, good: bytes, spoil: str) -> None:
    path = tmp_path / "good.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(spoil)
        connection.commit()
    with pytest.raises(CoterieError, match=r"good\.db"):
        async with opened(path):
            pass


async def test_damage_that_is_met_later_is_an_error_of_that_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as engine:
        await asyncio.gather(*(put(engine, f"key-{number:04}", bytes(1000)) for number in range(2000)))
        await put(engine, "last")
    with path.open("r+b") as file:
        for place in range(64 * 4096, path.stat().st_size - 8 * 4096, 4096):
            file.seek(place)
            file.write(b"\xa5" * 4096)
    async with opened(path) as engine:
        with pytest.raises(CorruptData, match="restore it from a backup"):
            await engine.store.scan("", limit=10_000)
        with pytest.raises(CorruptData):
            await anext(engine.store.watch(""))
        with pytest.raises(CorruptData):
            await put(engine, "last")
        await engine.log.create("t", 1)  # The node lives on, with what can be read.
        assert await engine.log.topics() == {"t": 1}


async def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    async with opened(tmp_path / "a.db") as engine:
        assert await put(engine, "key") == 1


@pytest.mark.parametrize("statements", [1, 2], ids=["before", "after"])
async def test_a_crash_while_the_file_is_made(tmp_path: Path, statements: int) -> None:
    """What SIGKILL leaves right before or after the tables are committed: nothing has left the log yet."""
    prepare(SqliteConfig(path=tmp_path / "other.db"))
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        tables = [row[0] for row in other.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        meta = list(other.execute("SELECT * FROM meta"))
        application, version = (other.execute(f"PRAGMA {name}").fetchone()[0] for name in MARKS)
    with closing(sqlite3.connect(tmp_path / "made.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        if statements == 2:
            connection.execute("BEGIN")
            for statement in tables:
                connection.execute(statement)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta)
            connection.execute(f"PRAGMA application_id = {application}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        for suffix in ("", "-wal", "-shm"):  # The connection has not closed: this is what a crash leaves.
            if (tmp_path / f"made.db{suffix}").exists():
                shutil.copy(tmp_path / f"made.db{suffix}", tmp_path / f"left.db{suffix}")
    async with opened(tmp_path / "left.db") as engine:
        assert await put(engine, "key") == 1


MARKS = ("application_id", "user_version")


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel does not say who holds which lock")
def test_looking_at_the_file_keeps_the_locks_on_it(tmp_path: Path) -> None:
    config = SqliteConfig(path=tmp_path / "a.db")

    def locks() -> list[list[str]]:
        mine = f":{config.path.stat().st_ino}"
        fields = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return [f[1:4] for f in fields if f[4] == str(os.getpid()) and f[5].endswith(mine)]

    prepare(config)
    assert locks() == []
    with closing(connect(config, writer=False)) as reader:
        reader.execute("SELECT * FROM kv").fetchall()
        held = locks()
        assert held
        prepare(config)
        assert locks() == held


async def test_a_full_file_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as leader, opened(path) as follower:
        connection = writer_of(leader)._connection
        connection.execute("PRAGMA max_page_count = 60")
        done: list[str] = []
        failures: list[Unavailable] = []
        for number in range(120):
            key = f"key-{number}"
            try:
                await put((leader, follower)[number % 2], key, bytes(3000))
            except Unavailable as error:
                failures.append(error)
            else:
                done.append(key)
        assert len(failures) > 10
        assert "is full" in str(failures[0])
        assert {error.outcome for error in failures} == {Outcome.NOT_APPLIED}
        before = (await leader.store.scan("")).revision
        assert before == len(done)
        await follower.log.create("t", 1)  # Small enough.
        connection.execute("PRAGMA max_page_count = 10000")
        assert await put(follower, "after", bytes(3000)) == before + 1
        assert {entry.key for entry in (await follower.store.scan("key-")).entries} == set(done)
