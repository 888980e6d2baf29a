"""What streams promise is judged without test code: what is right passes, and what is wrong is found."""

from __future__ import annotations

import itertools

import pytest

from coterie.errors import Unavailable
from coterie.simulation import Verdict
from coterie.simulation.program.evidence import Streamed
from coterie.simulation.program.judge import judge
from coterie.simulation.program.notebook import Notebook

from .test_campaign import explored


class Book(Notebook):
    def __init__(self) -> None:
        ticks = itertools.count()
        super().__init__("shop", lambda: next(ticks))

    def streaming(self, *items: bytes, handlers: int = 1) -> Streamed:
        """Begin a stream of which `items` were sent."""
        streamed = self.stream("client", "Numbers.count", "node-1")
        for _ in range(handlers):
            ran = self.begin("node-1", "handle", "Numbers.count")
            streamed.handled.append(ran)
        streamed.under_way.extend(items)
        return streamed

    def end(self, streamed: Streamed) -> None:
        self.ok(streamed.noted, streamed.received)
        streamed.came_to_its_end()

    def sentence(self) -> str | None:
        broken = judge(self)
        return None if broken is None else f"{broken.promise}: {broken.sentence}"


@pytest.mark.parametrize(
    ("came", "wrong"),
    [
        ((b"a", b"b"), None),
        ((b"b",), "item 1 was not the next that had been sent"),
        ((b"a", b"a"), "item 2 was not the next that had been sent"),
        ((b"a", b"b", b"c"), "item 3 came and was not sent"),
        ((b"a",), "it ended after 1 items and was not sent to its end"),
    ],
)
def test_items_are_those_that_were_sent(came: tuple[bytes, ...], wrong: str | None) -> None:
    book = Book()
    streamed = book.streaming(b"a", b"b")
    streamed.sent_all = True
    for item in came:
        streamed.got(item)
    book.end(streamed)
    what = "streams: the stream Numbers.count from node-1 to client is not what was sent: "
    assert book.sentence() == (None if wrong is None else what + wrong)


def test_an_end_that_the_handler_did_not_make_is_found() -> None:
    book = Book()
    book.end(book.streaming())
    assert "was not sent to its end" in str(book.sentence())
    book = Book()
    book.end(book.streaming(handlers=0))
    assert "came to an end that no handler made" in str(book.sentence())


def test_two_handlers_of_one_stream_are_found() -> None:
    book = Book()
    book.streaming(handlers=2)
    assert "reached its handler twice: on node-1, node-1" in str(book.sentence())


def test_what_was_left_early_or_broke_off_is_right() -> None:
    book = Book()
    book.streaming(b"a", b"b").got(b"a")
    broken_off = book.streaming(b"a")
    book.error(broken_off.noted, Unavailable("gone"))
    assert book.sentence() is None


def test_streams_keep_their_promises() -> None:
    progress = explored("streaming:app", 6, duration_s=20.0).progress
    assert progress.verdicts == {Verdict.OK: 6}
    assert progress.idle() == []


def test_a_wire_that_loses_an_item_is_found() -> None:
    result = explored("lossy_streams:app", 2, duration_s=20.0).failing
    assert result is not None
    assert result.promise == "streams"
    assert " is not what was sent: item 7 " in result.message
