"""Cron expressions against a slow oracle that looks at every minute, and when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.coordination.cron import Cron, Every, due
from coterie.errors import InvalidConfiguration

BERLIN, NEW_YORK, LORD_HOWE, BEIRUT = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Beirut",
)


def at(text: str, zone: str = "UTC", *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def ticks(expression: str, zone: str, start: str, count: int) -> list[str]:
    """Return the next ticks as the wall shows them, with the offset from UTC."""
    cron, moment, found = Cron(expression, zone), at(start, zone) - 1, []
    for _ in range(count):
        moment = cron.next_after(moment)
        found.append(cron.at(moment).strftime("%m-%d %H:%M%z"))
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 3 * * *", ["01-01 03:00", "01-02 03:00", "01-03 03:00"]),
        ("*/20 * * * *", ["01-01 00:00", "01-01 00:20", "01-01 00:40"]),
        ("5,10-12 8-18/5 * * *", ["01-01 08:05", "01-01 08:10", "01-01 08:11"]),
        ("0 0 L * *", ["01-31 00:00", "02-28 00:00", "03-31 00:00"]),
        ("0 12 * * mon-wed", ["01-05 12:00", "01-06 12:00", "01-07 12:00"]),
        ("0 12 * * 7", ["01-04 12:00", "01-11 12:00", "01-18 12:00"]),
        ("0 12 13 * fri", ["01-02 12:00", "01-09 12:00", "01-13 12:00"]),
        ("0 0 29 feb *", ["02-29 00:00", "02-29 00:00", "02-29 00:00"]),
        ("@monthly", ["01-01 00:00", "02-01 00:00", "03-01 00:00"]),
        ("30 9/6 1 1,7 ?", ["01-01 09:30", "01-01 15:30", "01-01 21:30"]),
    ],
)
def test_what_expressions_mean(expression: str, expected: list[str]) -> None:
    assert ticks(expression, "UTC", "2026-01-01", 3) == [f"{text}+0000" for text in expected]


def test_a_time_that_is_left_out_runs_when_the_clock_jumps() -> None:
    assert ticks("30 2 * * *", BERLIN, "2026-03-28", 3) == [
        "03-28 02:30+0100",
        "03-29 03:00+0200",  # The clock goes from 02:00 to 03:00.
        "03-30 02:30+0200",
    ]
    # Several that are left out run once.
    assert ticks("0,30 2 * * *", BERLIN, "2026-03-29", 2) == ["03-29 03:00+0200", "03-30 02:00+0200"]
    # A whole midnight is left out.
    assert ticks("0 0 * * *", BEIRUT, "2026-03-28", 3)[1] == "03-29 01:00+0300"
    # Half an hour is left out.
    assert ticks("15 2 * * *", LORD_HOWE, "2026-10-04", 1) == ["10-04 02:30+1100"]


def test_a_time_that_comes_twice_runs_the_first_time() -> None:
    assert ticks("30 2 * * *", BERLIN, "2026-10-24", 3) == [
        "10-24 02:30+0200",
        "10-25 02:30+0200",
        "10-26 02:30+0100",
    ]


def test_intervals_go_by_the_time_that_passes() -> None:
    assert ticks("30 * * * *", NEW_YORK, "2026-03-08T01:00", 2) == ["03-08 01:30-0500", "03-08 03:30-0400"]
    assert ticks("30 * * * *", NEW_YORK, "2026-11-01T00:45", 3) == [
        "11-01 01:30-0400",
        "11-01 01:30-0500",
        "11-01 02:30-0500",
    ]


FIELD = st.one_of(
    st.just("*"),
    st.builds("*/{}".format, st.integers(1, 5)),
    st.builds(lambda a, b: f"{min(a, b)}-{max(a, b)}", st.integers(1, 6), st.integers(1, 6)),
    st.lists(st.integers(1, 6), min_size=1, max_size=3).map(lambda parts: ",".join(map(str, parts))),
)
ZONES = st.sampled_from(["UTC", BERLIN, NEW_YORK, LORD_HOWE, BEIRUT])
AROUND = st.sampled_from(
    ["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01", "2028-02-28"]
)


def slowly(cron: Cron, start: float, end: float) -> list[float]:
    """Return the ticks of an expression with `*` hours by looking at every minute that passes."""
    fields = cron.expression.split()
    sets = [
        _members(text, low, high)
        for text, low, high in zip(fields, (0, 0, 1, 1, 0), (59, 23, 31, 12, 6), strict=True)
    ]
    found, moment = [], start
    either = fields[2][0] != "*" and fields[4][0] != "*"
    while (moment := moment + 60) <= end:
        local = cron.at(moment)
        date, weekday = local.day in sets[2], local.isoweekday() % 7 in sets[4]
        if (
            local.minute in sets[0]
            and local.hour in sets[1]
            and local.month in sets[3]
            and (date or weekday if either else date and weekday)
        ):
            found.append(moment)
    return found


def _members(text: str, low: int, high: int) -> set[int]:
    if text[0] == "*":
        return set(range(low, high + 1, int(text[2:] or 1)))
    if "-" in text:
        first, last = map(int, text.split("-"))
        return set(range(first, last + 1))
    return set(map(int, text.split(",")))


EXPRESSIONS = st.tuples(
    FIELD, st.sampled_from(["*", "*/2", "*/5"]), FIELD, st.sampled_from(["*", "1-11", "*/2"]), FIELD
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS, ZONES, AROUND)
def test_intervals_are_what_a_look_at_every_minute_finds(expression: str, zone: str, around: str) -> None:
    cron = Cron(expression, zone)
    start = at(around) - 86400
    end = start + 2 * 86400
    assert due(cron, start, end, most=10_000)[0] == slowly(cron, start, end)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 23), st.integers(0, 59), ZONES, st.integers(2020, 2035), st.integers(1, 366))
def test_a_daily_time_runs_once_on_every_day(hour: int, minute: int, zone: str, year: int, day: int) -> None:
    cron = Cron(f"{minute} {hour} * * *", zone)
    moment = at(f"{year}-01-01", zone) + (day - 1) * 86400
    before = cron.next_after(moment)
    for _ in range(200):
        after = cron.next_after(before)
        gap_h = (after - before) / 3600
        assert 22.4 < gap_h < 25.6
        assert cron.at(after).date() - cron.at(before).date() == timedelta(days=1)
        before = after


@given(st.floats(0.05, 1e6), st.floats(0, 4e9))
def test_every_is_never_its_own_successor_and_misses_nothing(seconds: float, moment: float) -> None:
    every = Every(seconds)
    first = every.next_after(moment)
    second = every.next_after(first)
    assert first - moment <= seconds * 1.0001
    assert second - first == pytest.approx(seconds, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3, 1, 7.7])
def test_every_goes_on_at_the_times_of_this_century(seconds: float) -> None:
    every, start = Every(seconds), at("2026-11-21T10:45:39")
    moment = first = every.next_after(start)
    for _ in range(5000):
        moment = every.next_after(moment)
    assert moment - first == pytest.approx(5000 * seconds, abs=1e-4)


def test_who_is_far_behind_gets_the_last_ticks() -> None:
    now = at("2026-06-01")
    found, cut = due(Every(1), 0.0, now, most=100)
    assert cut
    assert found == [now - 99 + number for number in range(100)]
    often, cut = due(Cron("*/10 1-3 * * *", "Europe/Berlin"), 0.0, now, most=1000)
    assert cut
    assert (
        often == due(Cron("*/10 1-3 * * *", "Europe/Berlin"), now - 86400 * 90, now, most=10_000)[0][-1000:]
    )
    assert due(Cron("0 3 * * *"), now - 86400, now, most=100) == ([now - 21 * 3600], False)
    assert due(Every(10), now - 5, now - 1, most=5) == ([], False)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("* * * *", "five fields"),
        ("60 * * * *", "'60' is no minute"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month"),
        ("* * * smarch *", "'smarch' is no month"),
        ("* * * * 8", "'8' is no day of the week"),
        ("*/0 * * * *", "no step"),
        ("5-1 * * * *", "ends before it begins"),
        ("0 0 30 2 *", "no such day"),
        ("a * * * *", "'a' is no minute"),
        ("-1 * * * *", "is no minute"),
        ("* * * * *", ""),
    ],
)
def test_nonsense_is_named(expression: str, message: str) -> None:
    if not message:
        Cron(expression)
        return
    with pytest.raises(InvalidConfiguration, match=message):
        Cron(expression)


def test_zones_and_intervals_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="no time zone 'Mars/Olympus'"):
        Cron("@daily", "Mars/Olympus")
    for seconds in (0, -1, 0.01, float("nan"), float("inf")):
        with pytest.raises(InvalidConfiguration, match=r"every\(...\)"):
            Every(seconds)
    assert datetime.fromtimestamp(Every(60).next_after(1.0), UTC).second == 0
