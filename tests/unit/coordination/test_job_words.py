"""A schedule in words: they are right, and tell schedules apart."""

from __future__ import annotations

import itertools

import pytest

from coterie.coordination import Cron, Every
from coterie.coordination.words import in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.05, "every 0.05 seconds"),
        (1, "every second"),
        (90, "every 90 seconds"),
        (60, "every minute"),
        (5400, "every 90 minutes"),
        (7200, "every 2 hours"),
        (86400, "every day"),
        (7 * 86400, "every 7 days"),
    ],
)
def test_an_interval(seconds: float, words: str) -> None:
    assert in_words(Every(seconds)) == words


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 3 * * *", "at 03:00"),
        ("@daily", "at 00:00"),
        ("* * * * *", "every minute"),
        ("*/10 * * * *", "every 10 minutes"),
        ("*/7 * * * *", "at minute 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        ("@hourly", "at minute 0 of every hour"),
        ("0 9-17 * * mon-fri", "at minute 0 of the hours 9 to 17, on Monday to Friday"),
        ("1-5 1 * * *", "at minute 1 to 5 of the hour 1"),
        ("*/20 8,12,18 * * *", "every 20 minutes of the hours 8, 12 and 18"),
        ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00"),
        ("30 2 1,15 * *", "at 02:30, on day 1 and 15 of the month"),
        ("0 0 L * *", "at 00:00, on the last day of the month"),
        ("0 0 1,L 6-8 *", "at 00:00, on day 1 and the last day of the month, in June to August"),
        ("0 12 * * sat,sun", "at 12:00, on Saturday and Sunday"),
        ("0 12 13 * fri", "at 12:00, on day 13 of the month or on Friday"),
        ("0 12 */15 * fri", "at 12:00, on day 1, 16 and 31 of the month if that is Friday"),
        ("0 12 1-31 * fri", "at 12:00"),
        ("0 12 13 * 0-6", "at 12:00"),
        ("0 12 1-30,L * *", "at 12:00, on day 1 to 30 and the last day of the month"),
    ],
)
def test_a_cron_expression(expression: str, words: str) -> None:
    assert in_words(Cron(expression)) == f"{words}, UTC"
    assert in_words(Cron(expression, "Europe/Berlin")) == f"{words}, Europe/Berlin"


def test_of_two_schedules_with_other_ticks_the_words_differ() -> None:
    fields = (
        ("*", "0", "*/15", "0,15", "1-5"),
        ("*", "3", "*/6", "8-10"),
        ("*", "1", "L", "1-31", "*/10"),
        ("*", "6-8"),
        ("*", "0", "1-5", "0-6"),
    )
    known: dict[str, Cron] = {}
    for texts in itertools.product(*fields):
        cron = Cron(" ".join(texts))
        other = known.setdefault(in_words(cron), cron)
        assert ticks(cron) == ticks(other), f"{cron} and {other} are both {in_words(cron)!r}"
    assert len(known) > 400


def ticks(cron: Cron) -> list[float]:
    return [cron.next_after(start * 86400 * 61.3) for start in range(4)]
