"""The judge knows right from wrong in what rate limits let through, by clocks that agree or do not."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from coterie.resilience import Rate
from coterie.simulation.environment import Stretch
from coterie.simulation.program.evidence import Passed
from coterie.simulation.program.judge import judge
from coterie.simulation.program.judge_rates import not_judged
from coterie.simulation.program.notebook import Notebook

RATE = Rate(rate=10, per=1.0, burst=8)
HOSTS = 2
AT_ONCE = 8 + HOSTS * 2 + 1
"""The burst, a batch of a quarter of it for each host, and what is forgiven for rounding."""


class Book(Notebook):
    """A notebook with a clock that is set by hand."""

    def __init__(self, *, rate: Rate = RATE, limit: int = 500_000) -> None:
        super().__init__("shop", lambda: round(self.now_s * 1e9), limit=limit)
        self.now_s = 0.0
        self.rate = rate

    def take(self, at_s: float, *, host: str = "node-1", units: int = 1, key: str = "ada") -> None:
        self.now_s = at_s
        rated = self.asked("api", key, self.rate, host, units)
        noted = self.begin(host, "acquire", f"api/{key}", units)
        self.ok(noted)
        self.let_through(rated, Passed(noted, units))

    def set_off(self, host: str, *stretches: tuple[float, float]) -> None:
        """Let the clock of a host be off by so much from such a time on."""
        begins = [begin_s for begin_s, _ in stretches]
        ends = [*begins[1:], 1e6]
        self.clocks = {
            **self.clocks,
            host: [Stretch(begin, end, off, off) for (begin, off), end in zip(stretches, ends, strict=True)],
        }

    def sentence(self) -> str | None:
        broken = judge(self)
        return None if broken is None else f"{broken.promise}: {broken.sentence}"


def book_of_two_hosts(**options: int) -> Book:
    book = Book(**options)
    book.asked("api", "ada", RATE, "node-1", 1)
    book.asked("api", "ada", RATE, "node-2", 1)
    return book


def test_the_burst_and_what_hosts_may_hold_pass_at_once_and_no_more() -> None:
    book = book_of_two_hosts()
    for turn in range(AT_ONCE):
        book.take(1.0, host=f"node-{turn % 2 + 1}")
    assert book.sentence() is None
    book.take(1.0)
    assert book.sentence() == (
        "rate limits: the rate limit 'api' let 14 units of 'ada' through in 0.000 s (node-1 8, node-2 6), "
        "and no more than 13 may pass: a burst of 8, 10 in 1 s, and 4 that 2 hosts may have held"
    )


def test_keys_and_limits_are_judged_by_themselves() -> None:
    book = Book()
    for key in ("ada", "bob", "cleo"):
        for _ in range(11):
            book.take(1.0, key=key)
    assert book.sentence() is None


def test_what_is_earned_may_pass_as_well() -> None:
    book = book_of_two_hosts()
    for turn in range(1000):
        book.take(turn / 10)
    assert book.sentence() is None
    for turn in range(AT_ONCE):
        book.take(99.95 + turn / 1000)
    assert "let 14 units of 'ada' through in 0.062 s" in str(book.sentence())


def test_the_witness_is_the_shortest_time_and_shows_its_ends() -> None:
    book = book_of_two_hosts()
    for turn in range(100):
        book.take(turn / 10)
    for turn in range(200):
        book.take(50.0 + turn / 40)
    broken = judge(book)
    assert broken is not None
    assert len(broken.witness) == 16
    assert broken.witness[0].start_ns >= 50e9
    assert "let 18 units" in broken.sentence


def test_one_that_takes_much_may_have_as_much_left_over() -> None:
    book = Book()
    book.asked("api", "ada", RATE, "node-1", 6)
    for _ in range(8 + 6 + 5 + 1):
        book.take(1.0)
    assert book.sentence() is None
    book.take(1.0)
    assert "and 11 that 1 host may have held" in str(book.sentence())


def test_clocks_that_are_apart_may_let_more_through() -> None:
    book = book_of_two_hosts()
    book.set_off("node-1", (0.0, 0.5))
    book.set_off("node-2", (0.0, -0.5))
    for _ in range(AT_ONCE + 10):
        book.take(1.0)
    assert book.sentence() is None
    book.take(1.0)
    assert "the clocks of which were up to 1.000 s apart" in str(book.sentence())


@pytest.mark.parametrize("off_s", [30.0, 70.0])
def test_a_clock_that_was_wrong_excuses_nothing_that_happens_before_or_after(off_s: float) -> None:
    def a_book(*times: float) -> Book:
        book = book_of_two_hosts()
        book.set_off("node-1", (0.0, 0.0))
        book.set_off("node-2", (0.0, 0.0), (10.0, off_s), (20.0, 0.0))
        for at_s in times:
            for _ in range(AT_ONCE + 1):
                book.take(at_s)
        return book

    assert a_book(10.0).sentence() is None  # By whichever clock it was.
    assert a_book(15.0).sentence() is None
    assert a_book(20.0).sentence() is None
    assert "let 14 units" in str(a_book(5.0).sentence())
    assert "let 14 units" in str(a_book(15.0, 25.0).sentence())
    assert not_judged(a_book(15.0)) == (["api"] if off_s > 60 else [])
    assert not_judged(a_book(5.0)) == []


def test_a_record_that_the_store_forgets_early_is_allowed_for() -> None:
    """By clocks that drift, the record of a key may be gone a little before its burst is earned."""
    hourly = Rate(rate=100, per=3600.0, burst=20)
    book = Book(rate=hourly)
    for turn in range(20):
        book.take(turn / 100)
    for turn in range(20 + 5 + 1):
        book.take(hourly.interval_s * 20 * 0.99 + turn / 100)
    assert book.sentence() is None
    for turn in range(20):
        book.take(hourly.interval_s * 20 + turn / 100)
    assert "a burst of 20, 100 in 3600 s" in str(book.sentence())


def test_a_notebook_that_is_full_says_so() -> None:
    book = Book(limit=10)
    for turn in range(11):
        book.take(turn)
    assert "evidence" in str(book.sentence())
    assert len(book.rated["api", "ada"].passed) == 10


def brute_force(times: Sequence[tuple[float, int]], at_once: float) -> bool:
    return any(
        sum(units for _, units in times[first : last + 1]) > at_once + 10 * (times[last][0] - times[first][0])
        for first in range(len(times))
        for last in range(first, len(times))
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_verdict_is_that_of_looking_at_every_span(seed: int) -> None:
    draw = random.Random(seed)
    book, now_s = book_of_two_hosts(), 0.0
    taken: list[tuple[float, int]] = []
    for _ in range(80):
        now_s += draw.expovariate(20)
        units = draw.choice((1, 1, 2))
        book.take(now_s, units=units)
        taken.append((now_s, units))
    rated = book.rated["api", "ada"]
    at_once = 8 + HOSTS * (2 + rated.most - 1) + 1
    assert (book.sentence() is not None) is brute_force(taken, at_once)
