"""The writer gives other processes their turn, and never waits for long or often in vain."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from coterie.engines.sqlite.batch import Applied
from coterie.engines.sqlite.config import SqliteConfig
from coterie.engines.sqlite.operations import DoCommit, Result
from coterie.engines.sqlite.schema import prepare
from coterie.engines.sqlite.sessions import decode_outcomes
from coterie.engines.sqlite.turns import Turns
from coterie.engines.sqlite.writer import Writer
from coterie.engines.system import SystemClock
from coterie.ports.store import Commit, Put

OTHER = "another process"


def waits_in_vain(turns: Turns, answers: int) -> int:
    """Answer somebody who never comes back; return how often was waited."""
    waits = 0
    for _ in range(answers):
        turns.answered({OTHER})
        if turns.awaited:
            waits += 1
            turns.give_up()
    return waits


def test_who_was_answered_is_awaited_until_he_comes() -> None:
    turns = Turns()
    turns.answered({"a", "b"})
    assert turns.awaited == {"a", "b"}
    turns.came("a")
    turns.came("never answered")
    assert turns.awaited == {"b"}


def test_who_does_not_come_back_is_waited_for_ever_less_often() -> None:
    turns = Turns()
    assert waits_in_vain(turns, 1000) <= 7 + 1000 / 64


def test_who_comes_back_again_is_trusted_again() -> None:
    turns = Turns()
    waits_in_vain(turns, 1000)
    for _ in range(1000):
        turns.answered({OTHER})
        turns.came(OTHER)
    for _ in range(10):
        turns.answered({OTHER})
        assert turns.awaited == {OTHER}
        turns.came(OTHER)
    assert waits_in_vain(turns, 2) == 1
    turns.answered({OTHER})
    assert turns.awaited == {OTHER}, "one lapse costs one turn"


def test_who_has_gone_is_forgotten() -> None:
    turns = Turns()
    waits_in_vain(turns, 5)
    turns.answered({"a"})
    for session in ("a", OTHER):
        turns.forget(session)
    assert (turns.awaited, turns._skips, turns._backoff) == (set(), {}, {})


class Told:
    """Takes the results of a writer, by tag."""

    def __init__(self) -> None:
        self.results: dict[str, asyncio.Future[Result]] = {}

    def expect(self, tag: str) -> asyncio.Future[Result]:
        future = self.results[tag] = asyncio.get_running_loop().create_future()
        return future

    def __call__(self, tag: str, result: Result) -> None:
        self.results[tag].set_result(result)


@asynccontextmanager
async def opened(tmp_path: Path, *, max_batch: int = 1024) -> AsyncIterator[Writer]:
    config = SqliteConfig(path=tmp_path / "turns.db", max_batch=max_batch)
    prepare(config)

    def ignore(_applied: Applied) -> None:
        """Nobody watches."""

    writer = Writer(config, SystemClock(), "this boot", on_applied=ignore)
    try:
        yield writer
    finally:
        await writer.close()


def ask(writer: Writer, told: Told, tag: str, *, number: int = 0) -> asyncio.Future[Result]:
    """Submit a put; with a number, for the other process."""
    future = told.expect(tag)
    operation = DoCommit(Commit((Put(tag, b"value"),)))
    writer.submit((operation, told, tag, (OTHER, 0) if number else None))
    return future


async def test_another_process_that_comes_back_at_once_is_in_the_next_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        told = Told()
        await asyncio.gather(ask(writer, told, "own 1"), ask(writer, told, "other 1", number=1))
        assert writer.batches == 1
        own = ask(writer, told, "own 2")
        await asyncio.sleep(0)  # Without a moment for the other, the transaction is cut here.
        await asyncio.sleep(0)
        await asyncio.gather(own, ask(writer, told, "other 2", number=2))
        assert writer.batches == 2


async def test_another_process_that_does_not_come_back_holds_nobody_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        told = Told()
        await asyncio.gather(ask(writer, told, "own 1"), ask(writer, told, "other 1", number=1))
        async with asyncio.timeout(10):
            assert [await ask(writer, told, f"own {turn}") for turn in range(2, 5)] == [3, 4, 5]


async def test_closing_writes_what_waits_for_a_moment(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        told = Told()
        await asyncio.gather(ask(writer, told, "own 1"), ask(writer, told, "other 1", number=1))
        own = ask(writer, told, "own 2")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await writer.close()
        assert own.result() == 3


async def test_the_answers_to_another_process_are_stored_in_whichever_batch_they_are(tmp_path: Path) -> None:
    """Of those gathered, the other's stand behind what one transaction takes, then alone."""
    async with opened(tmp_path, max_batch=2) as writer:
        told = Told()
        own = [ask(writer, told, f"own {n}") for n in range(3)]
        other: list[Result] = []
        for number in (1, 2):
            put = DoCommit(Commit((Put(f"other {number}", b"value"),)))
            writer.submit((put, lambda _number, result: other.append(result), number, (OTHER, 0)))
        assert await asyncio.gather(*own) == [1, 2, 3]
        await writer.close()
        assert (other, writer.batches) == ([4, 5], 3)
    with closing(sqlite3.connect(tmp_path / "turns.db")) as connection:
        [(session, blob)] = connection.execute("SELECT id, outcomes FROM sessions")
    assert (session, decode_outcomes(blob)) == (OTHER, {1: 4, 2: 5})


async def test_whoever_stops_waiting_leaves_the_others_their_results(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer:
        first, gone, last = (writer.ask(DoCommit(Commit((Put(key, b"value"),)))) for key in "abc")
        gone.cancel()
        assert await asyncio.gather(first, last) == [1, 3]
