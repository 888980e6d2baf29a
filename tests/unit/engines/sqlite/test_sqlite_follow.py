"""A watch that begins just as the writer goes waits for the next one, and leaves the loop to others."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from coterie.engines.sqlite import SqliteEngine, open_engine
from coterie.engines.sqlite.follower import Follower
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.ports.store import Commit, Put


async def opened(path: Path) -> SqliteEngine:
    engine = await open_engine(f"sqlite:///{path}", clock=SystemClock(), entropy=SystemEntropy())
    assert isinstance(engine, SqliteEngine)
    return engine


async def test_a_watch_that_begins_as_the_writer_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, other = await opened(tmp_path / "a.db"), await opened(tmp_path / "a.db")
    assert other.statistics()["role"] == "follower"
    closing = asyncio.create_task(writer.close())
    follower = other._follower
    assert follower is not None
    while follower.open:
        await asyncio.sleep(0)
    assert other._follower is follower, "the engine has not noticed yet"
    asked, follow = count(), Follower.follow

    async def counted(self: Follower, prefixes: tuple[str, ...]) -> None:
        if next(asked) < 1000:
            await follow(self, prefixes)

    monkeypatch.setattr(Follower, "follow", counted)
    watch = other.store.watch("k")
    snapshot = await anext(watch)
    assert snapshot.changes == ()
    await other.store.commit(Commit((Put("k", b"new"),)))
    assert [change.value for change in (await anext(watch)).changes] == [b"new"]
    await watch.aclose()
    assert next(asked) < 1000, "it asks without end, and lets nobody else run"
    await closing
    await other.close()
