"""Reads of one page share a question that was not asked yet, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from coterie.engines.postgres.reads import Page, Reads
from coterie.errors import NotFound, Overloaded
from coterie.ports.log import Segment

PAGE: Page = ("topic", 0, 0, 10)


class Database:
    """Answers one question after the other, when it is told to, with the number of the question."""

    def __init__(self) -> None:
        self.asked: list[Page] = []
        self.go = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def read(self, page: Page, since: float) -> Segment:
        self.asked.append(page)
        number = len(self.asked)
        await self.go.acquire()
        if self.error is not None:
            raise self.error
        return Segment((), number)


async def test_who_waits_for_a_page_shares_it_and_a_question_under_way_is_not_joined() -> None:
    database = Database()
    reads = Reads(database.read, 1, 2)
    first = reads.read(PAGE)
    await asyncio.sleep(0)
    later = [reads.read(PAGE), reads.read(("topic", 1, 0, 10)), reads.read(PAGE)]
    later[0].cancel()
    for _ in range(3):
        database.go.release()
    assert (await first).next_offset == 1
    assert [(await future).next_offset for future in later[1:]] == [3, 2]
    assert database.asked == [PAGE, PAGE, ("topic", 1, 0, 10)]


async def test_who_asks_when_the_last_worker_ends_is_answered() -> None:
    database = Database()
    reads = Reads(database.read, 1, 2)
    for _ in range(20):
        database.go.release()
    async with asyncio.timeout(5):
        for number in range(1, 21):
            assert (await reads.read(PAGE)).next_offset == number


async def test_each_who_waits_has_an_error_of_its_own_and_those_who_left_are_not_asked_for() -> None:
    database = Database()
    database.error = NotFound("no topic", hint="create it")
    reads = Reads(database.read, 1, 2)
    waiting = [reads.read(PAGE), reads.read(PAGE)]
    left = reads.read(("left", 0, 0, 10))
    left.cancel()
    database.go.release()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [NotFound, NotFound]
    assert errors[0] is not errors[1]
    with pytest.raises(asyncio.CancelledError):
        await left
    assert database.asked == [PAGE]


async def test_one_page_too_many_is_refused_and_one_that_is_waited_for_is_not() -> None:
    database = Database()
    reads = Reads(database.read, 1, 2)
    pages: list[Page] = [("topic", partition, 0, 10) for partition in range(3)]
    waiting = [reads.read(pages[0]), reads.read(pages[1]), reads.read(pages[1])]
    with pytest.raises(Overloaded, match="2 pages wait to be read"):
        reads.read(pages[2])
    for _ in range(3):
        database.go.release()
    assert [(await future).next_offset for future in waiting] == [1, 2, 2]
    assert (await reads.read(pages[2])).next_offset == 3
