"""An operation that is asked again is answered, not done again, for as long as its asker may ask."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from sqlite_sample import ManualClock, opened, put

from coterie.codec.frames import PREFIX
from coterie.engines.sqlite import engine as engine_module
from coterie.engines.sqlite.link import Answers, Do, Join
from coterie.engines.sqlite.operations import Append, DoCommit, Failed, Result
from coterie.ports.log import Record
from coterie.ports.store import ABSENT, Check, Commit, Put

CREATE = DoCommit(Commit((Put("once", b""),), checks=(Check("once", ABSENT),)))
APPEND = Append("t", 0, (Record(b""),))


class Asker:
    """A follower as the writer sees it: only its messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def join(cls, path: Path, session: str) -> Asker:
        self = cls(*await asyncio.open_unix_connection(path.with_name(path.name + "-writer.sock")))
        self.send(Join(session))
        return self

    def send(self, message: object) -> None:
        frame = msgspec.msgpack.encode(message)
        self.writer.write(PREFIX.pack(len(frame)) + frame)

    async def answers(self, *numbers: int) -> dict[int, Result]:
        found: dict[int, Result] = {}
        async with asyncio.timeout(20):
            while not found.keys() >= set(numbers):
                (size,) = PREFIX.unpack(await self.reader.readexactly(4))
                frame = await self.reader.readexactly(size)
                if msgspec.msgpack.decode(frame)[0] == 3:
                    found.update(msgspec.msgpack.decode(frame, type=Answers).results)
        return found

    async def leave(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


async def test_what_is_asked_twice_is_done_once(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as engine:
        await engine.log.create("t", 1)
        asker = await Asker.join(path, "s")
        for _ in range(3):
            asker.send(Do(1, 0, CREATE))
            asker.send(Do(2, 0, APPEND))
        first = await asker.answers(1, 2)
        assert first == {1: 1, 2: 0}
        asker.send(Do(1, 0, CREATE))
        assert await asker.answers(1) == {1: 1}
        again = await Asker.join(path, "s")  # Its connection broke.
        again.send(Do(2, 1, APPEND))
        again.send(Do(3, 1, CREATE))
        answers = await again.answers(2, 3)
        assert answers[2] == 0
        assert isinstance(answers[3], Failed)
        assert answers[3].code == "conflict"
        other = await Asker.join(path, "other")
        other.send(Do(1, 0, APPEND))
        assert await other.answers(1) == {1: 1}
        for one in (asker, again, other):
            await one.leave()


async def test_a_connection_that_was_left_is_not_listened_to(tmp_path: Path) -> None:
    """What lay in it may have been sent again, heard and forgotten by the time that it is read."""
    path = tmp_path / "a.db"
    async with opened(path) as engine:
        await engine.log.create("t", 1)
        left = await Asker.join(path, "s")
        left.send(Do(1, 0, APPEND))
        await left.answers(1)
        asker = await Asker.join(path, "s")
        asker.send(Do(2, 1, APPEND))
        await asker.answers(2)
        with suppress(ConnectionError):
            left.send(Do(1, 0, APPEND))
            async with asyncio.timeout(20):
                assert await left.reader.read() == b""
        asker.send(Do(3, 2, APPEND))
        assert await asker.answers(3) == {3: 2}
        await left.leave()
        await asker.leave()


async def test_the_next_writer_knows_what_the_last_one_did(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as engine:
        await engine.log.create("t", 1)
        asker = await Asker.join(path, "s")
        for number in range(1, 5):
            asker.send(Do(number, number - 1, APPEND))
        assert await asker.answers(1, 2, 3, 4) == {1: 0, 2: 1, 3: 2, 4: 3}
        asker.send(Do(5, 2, CREATE))
        await asker.answers(5)
        await asker.leave()
    async with opened(path) as engine:
        asker = await Asker.join(path, "s")
        for number in (3, 4):
            asker.send(Do(number, 2, APPEND))
        asker.send(Do(5, 2, CREATE))
        assert await asker.answers(3, 4, 5) == {3: 2, 4: 3, 5: 1}
        assert (await engine.log.bounds("t", 0)).next == 4
        await asker.leave()


def stored(path: Path) -> dict[str, list[int]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = list(connection.execute("SELECT id, outcomes FROM sessions"))
    return {id_: sorted(msgspec.msgpack.decode(blob, type=dict[int, Result])) for id_, blob in rows}


async def test_what_was_heard_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as leader, opened(path) as follower:
        for number in range(50):
            await put(follower, f"{number}")
        assert list(stored(path).values()) == [[50]]
        await put(leader, "own")
        assert len(stored(path)) == 1, "the writer's own operations need no session"
        assert leader._leader is not None
        kept = [len(session.outcomes) for session in leader._leader.sessions.values()]
        assert kept == [1]


async def test_sessions_are_forgotten_when_they_can_be_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    boot = "first"
    monkeypatch.setattr(engine_module, "boot_id", lambda: boot)
    clock = ManualClock(now=1000.0)
    async with opened(path, clock=clock), opened(path, clock=clock) as follower:
        await put(follower, "key")
    clock.now += 599.0
    clock.wall += 1e6  # The wall clock jumped, which says nothing about the process.
    async with opened(path, clock=clock), opened(path, clock=clock) as follower:
        assert len(stored(path)) == 1
        await put(follower, "key")
        assert len(stored(path)) == 2
    clock.now += 2.0
    async with opened(path, clock=clock):
        assert len(stored(path)) == 1, "the first one has been silent for more than session_s"
    boot = "second"
    async with opened(path, clock=clock):
        assert stored(path) == {}
