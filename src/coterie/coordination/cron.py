"""When something is due: every so many seconds, or as a cron expression says in a time zone. Pure.

Five fields: minute, hour, day of the month, month, day of the week. Each is `*`, a number, a name (`jan`,
`mon`), a range, a list of these, and any of them with a step (`*/15`, `8-18/2`); `L` is the last day of the
month. As in POSIX, when both days are restricted, either is enough. Also `@hourly`, `@daily`, `@weekly`,
`@monthly` and `@yearly`.

When clocks change, what is meant by the hour of the day runs once a day, and what is meant by the interval
keeps it (so do Vixie's and Debian's cron). That is decided by the hour field:

* it names hours (`30 2 * * *`): a time that is left out runs at the moment when the clock jumps over it; a
  time that comes twice runs the first time;
* it is `*` or `*/n` (`*/10 * * * *`): it goes by the time that really passes, so that nothing runs in the
  hour that is left out, and in both of the hours that come twice.
"""

from __future__ import annotations

import calendar
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import InvalidConfiguration

__all__ = ["LAST", "Cron", "Every", "Schedule", "due"]

_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = {name.lower(): n for n, name in enumerate(calendar.month_abbr) if n}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12))
LAST = 32
"""Stands for the last day of a month."""
_LONGEST_DAYS = 366 * 9
"""Between two ticks: from one 29th of February to the next, across a year like 2100."""


class Schedule(Protocol):
    """A series of moments, in seconds since 1970."""

    def next_after(self, at: float) -> float:
        """Return the first moment of the series that is later than `at`."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """The multiples of `seconds` since 1970, so that all nodes mean the same moments."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0.05 <= self.seconds <= 86400 * 366:
            raise InvalidConfiguration(f"every(...) takes 0.05 seconds to 366 days, not {self.seconds!r}")

    def next_after(self, at: float) -> float:
        # Whole microseconds: a quotient of floats is too coarse for the times of this century.
        step = round(self.seconds * 1e6)
        return (round(at * 1e6) // step + 1) * step / 1e6

    def __str__(self) -> str:
        return f"every {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone; see the module. Raises `InvalidConfiguration` for nonsense."""

    expression: str
    zone: str = "UTC"
    _tz: ZoneInfo = field(init=False, repr=False, compare=False)
    _sets: tuple[frozenset[int], ...] = field(init=False, repr=False, compare=False)
    _real_hours: bool = field(init=False, repr=False, compare=False)
    _either_day: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            zone = ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidConfiguration(
                f"there is no time zone {self.zone!r}",
                hint="as in Europe/Berlin; on a bare system: pip install tzdata",
            ) from error
        texts = _MACROS.get(self.expression.strip().lower(), self.expression).lower().split()
        if len(texts) != 5:
            raise InvalidConfiguration(
                f"a cron expression has five fields, and {self.expression!r} has {len(texts)}",
                hint="minute hour day-of-month month day-of-week, as in '0 3 * * *'",
            )
        sets = [
            _parse(text, what, low, high, self.expression)
            for text, (what, low, high) in zip(texts, _FIELDS, strict=False)
        ]
        sets.append(frozenset(day % 7 for day in _parse(texts[4], "day of the week", 0, 7, self.expression)))
        object.__setattr__(self, "_tz", zone)
        object.__setattr__(self, "_sets", tuple(sets))
        object.__setattr__(self, "_real_hours", texts[1][0] in "*?")
        object.__setattr__(self, "_either_day", texts[2][0] not in "*?" and texts[4][0] not in "*?")
        self.next_after(0.0)  # Raises when there is no such day.

    def __str__(self) -> str:
        return f"{self.expression} {self.zone}"

    @property
    def sets(self) -> tuple[frozenset[int], ...]:
        """Minutes, hours, days of the month (with `LAST`), months and days of the week (Sunday is 0)."""
        return self._sets

    @property
    def either_day(self) -> bool:
        """Whether both days are restricted, so that either is enough."""
        return self._either_day

    def next_after(self, at: float) -> float:
        return self._next_real(at) if self._real_hours else self._next_wall(at)

    def at(self, moment: float) -> datetime:
        """Return a moment as this time zone shows it."""
        return datetime.fromtimestamp(moment, self._tz)

    def _next_wall(self, at: float) -> float:
        """Go through the times that a clock on the wall shows, or would show."""
        minutes, hours = sorted(self._sets[0]), sorted(self._sets[1])
        day = self.at(at).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        for _ in range(_LONGEST_DAYS):
            if self._matches(day):
                for hour in hours:
                    for minute in minutes:
                        moment = self._moment(day.replace(hour=hour, minute=minute))
                        if moment > at:
                            return moment
            day += timedelta(days=1)
        raise self._never()

    def _next_real(self, at: float) -> float:
        """Go through the time that passes, a minute, an hour or a day at a time."""
        minutes, hours = sorted(self._sets[0]), self._sets[1]
        moment = math.floor(at / 60) * 60.0 + 60.0
        limit = moment + _LONGEST_DAYS * 86400
        while moment < limit:
            local = self.at(moment)
            if not self._matches(local):
                tomorrow = local.replace(tzinfo=None, hour=0, minute=0, fold=0) + timedelta(days=1)
                # An hour may come twice around midnight: never go back.
                moment = max(self._moment(tomorrow), moment + 60)
                continue
            later = [minute for minute in minutes if minute >= local.minute] if local.hour in hours else []
            if not later:
                moment += (60 - local.minute) * 60
            elif later[0] == local.minute:
                return moment
            else:
                moment += (later[0] - local.minute) * 60
        raise self._never()

    def _matches(self, day: datetime) -> bool:
        days, months, weekdays = self._sets[2], self._sets[3], self._sets[4]
        if day.month not in months:
            return False
        last = LAST in days and day.day == calendar.monthrange(day.year, day.month)[1]
        by_date = day.day in days or last
        by_weekday = day.isoweekday() % 7 in weekdays
        return by_date or by_weekday if self._either_day else by_date and by_weekday

    def _moment(self, wall: datetime) -> float:
        """Return when a clock on the wall first shows `wall`, or jumps over it."""
        first = wall.replace(tzinfo=self._tz, fold=0)
        moment = first.timestamp()
        if self.at(moment).replace(tzinfo=None) == wall:
            return moment
        before, after = first.replace(fold=1).timestamp(), moment
        old = self.at(before).utcoffset()
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if self.at(middle).utcoffset() == old else (before, middle)
        return after

    def _never(self) -> InvalidConfiguration:
        return InvalidConfiguration(f"there is no such day: {self.expression!r}")


def _parse(text: str, what: str, low: int, high: int, expression: str) -> frozenset[int]:
    names = {"month": _MONTHS, "day of the week": _DAYS}.get(what, {})

    def number(part: str) -> int:
        value = names.get(part, int(part) if part.isdecimal() else -1)
        if not low <= value <= high:
            raise InvalidConfiguration(
                f"{part!r} is no {what}, in the cron expression {expression!r}",
                hint=f"a number from {low} to {high}" + (f", or {', '.join(names)}" if names else ""),
            )
        return value

    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = int(step_text) if step_text.isdecimal() else 0
        if slash and not 1 <= step <= high:
            raise InvalidConfiguration(f"{part!r} has no step from 1 to {high}, in {expression!r}")
        first, dash, last = span.partition("-")
        if span in {"*", "?"}:
            start, end = low, min(high, 6) if what == "day of the week" else high
        elif span == "l" and what == "day of the month":
            found.add(LAST)
            continue
        else:
            start = number(first)
            end = number(last) if dash else high if slash else start
        if end < start:
            raise InvalidConfiguration(f"the range {span!r} ends before it begins, in {expression!r}")
        found.update(range(start, end + 1, step or 1))
    return frozenset(found)


def due(schedule: Schedule, after: float, now: float, *, most: int) -> tuple[list[float], bool]:
    """Return the last `most` moments in (`after`, `now`], and whether there may be earlier ones."""
    found: list[float] = []
    cut = False
    moment = schedule.next_after(after)
    while moment <= now:
        found.append(moment)
        if len(found) > most:
            # Far behind: begin again near the end, but well before the last `most`. The ticks of a schedule
            # are of much the same density.
            nearer = now - 1.5 * (found[-1] - found[0])
            cut = True
            found = found[1:] if nearer <= moment else []
            moment = max(moment, nearer)
        moment = schedule.next_after(moment)
    return found, cut
