"""The judge knows right from wrong in what locks, sequences and schedules gave out."""

from __future__ import annotations

import itertools

from coterie.ports.store import Fence
from coterie.simulation.program.evidence import Acquired, FencedWrite, Noted, Ran, Reserved
from coterie.simulation.program.judge import judge
from coterie.simulation.program.notebook import Notebook


class Book(Notebook):
    """A notebook with one operation after the other."""

    def __init__(self, *, limit: int = 500_000) -> None:
        ticks = itertools.count()
        super().__init__("shop", lambda: next(ticks), limit=limit)

    def done(self, host: str, f: str, key: str, result: object = None) -> Noted:
        noted = self.begin(host, f, key)
        self.ok(noted, result)
        return noted

    def acquire(self, host: str, token: int) -> None:
        noted = self.done(host, "acquire", "lock/till", token)
        self.add(Acquired(noted, token, False, 1, "shop/lock/lock/till"), self.acquired)

    def reserve(self, host: str, first: int, last: int, *, block: int = 10) -> None:
        noted = self.done(host, "reserve", "invoices", [first, last])
        self.add(Reserved(noted, first, last, block), self.reserved)

    def run(self, host: str, due: float, token: int, *, attempt: int = 1, again: bool = True) -> None:
        self.add(Ran(self.done(host, "run", "report"), due, attempt, token, again), self.ran)

    def sentence(self) -> str | None:
        broken = judge(self)
        return None if broken is None else f"{broken.promise}: {broken.sentence}"


def test_tokens_of_a_lock_rise() -> None:
    book = Book()
    book.acquire("node-1", 3)
    book.acquire("node-2", 5)
    assert book.sentence() is None
    book.acquire("node-1", 4)
    assert "locks: the tokens of the lock 'till' are not right" in str(book.sentence())


def test_a_write_with_the_token_of_another_host_is_found() -> None:
    book = Book()
    book.acquire("node-1", 3)
    write = FencedWrite(book.done("node-1", "put", "stock/a"), Fence("shop/lock/lock/till", 3), 4)
    book.fenced.append(write)
    assert book.sentence() is None
    write.noted.host = "node-2"
    assert book.sentence() == (
        "locks: node-2 wrote with the token 3 of the lock 'till', which node-1 was given"
    )


def test_numbers_of_a_sequence_are_unique() -> None:
    book = Book()
    book.reserve("node-1", 1, 4)
    book.reserve("node-2", 11, 11)
    book.reserve("node-1", 5, 5)  # Nodes rise by themselves only.
    assert book.sentence() is None
    book.reserve("node-3", 4, 6)
    assert book.sentence() == (
        "sequences: node-1 and node-3 were both given the number 4 of the sequence 'invoices'"
    )


def test_numbers_of_one_node_rise_and_with_a_block_of_one_all_do() -> None:
    book = Book()
    book.reserve("node-1", 11, 11)
    book.reserve("node-1", 1, 1)
    assert "node-1 was given a lower number of the sequence 'invoices'" in str(book.sentence())
    book = Book()
    book.reserve("node-1", 11, 11, block=1)
    book.reserve("node-2", 1, 1, block=1)
    assert "node-2 was given a lower number of the sequence 'invoices'" in str(book.sentence())


def test_a_tick_is_run_again_only_as_a_further_attempt() -> None:
    book = Book()
    book.run("node-1", 10.0, 3)
    book.run("node-2", 10.0, 7, attempt=2)  # The first node died before it could say that it was done.
    assert book.sentence() is None
    book.run("node-3", 10.0, 8, attempt=2)
    assert book.sentence() == "schedules: node-2 and node-3 both ran 'report' for the tick 10.000"


def test_a_tick_that_is_left_alone_after_a_crash_is_run_once() -> None:
    book = Book()
    book.run("node-1", 10.0, 3, again=False)
    assert book.sentence() is None
    book.run("node-2", 10.0, 7, attempt=2, again=False)
    assert book.sentence() == "schedules: node-1 and node-2 both ran 'report' for the tick 10.000"


def test_a_tick_whose_run_is_over_is_not_run_again() -> None:
    book = Book()
    book.run("node-1", 10.0, 3)
    book.is_over("report", 10.0, 5)
    book.is_over("report", 10.0, 9)  # It stays in the record for a while.
    assert book.sentence() is None
    book.run("node-2", 10.0, 7, attempt=2)
    assert book.sentence() == "schedules: node-2 ran 'report' for the tick 10.000, whose run was over"


def test_ticks_that_are_over_are_kept_up_to_a_limit() -> None:
    book = Book(limit=3)
    for tick in range(3):
        book.is_over("report", tick, tick + 1)
        book.is_over("report", tick, tick + 2)
    assert (len(book.over), book.sentence()) == (3, None)
    book.is_over("report", 3.0, 9)
    assert len(book.over) == 3
    assert "evidence: the universe had more operations than are recorded" in str(book.sentence())
