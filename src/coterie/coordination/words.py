"""A schedule in words, for people who do not read cron expressions every day. Pure."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable

from .cron import LAST, Cron, Every, Schedule

__all__ = ["in_words"]

_FEW = 4
"""So many times of a day are named one by one."""
_EVERY_DAY = frozenset(range(1, 32))
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def in_words(schedule: Schedule) -> str:
    """Return what a schedule means. Of two that differ in their ticks the words differ, too."""
    if isinstance(schedule, Every):
        return _every(schedule.seconds)
    if isinstance(schedule, Cron):
        return _cron(schedule)
    return str(schedule)


def _every(seconds: float) -> str:
    for size, unit in _UNITS:
        count = seconds / size
        if count == int(count):
            return f"every {unit}" if count == 1 else f"every {count:.0f} {unit}s"
    return f"every {seconds:.6g} seconds"


def _cron(cron: Cron) -> str:
    minutes, hours, days, months, weekdays = cron.sets
    parts = [_times(minutes, hours)]
    by_date = None if days >= _EVERY_DAY else _dates(days)
    by_weekday = None if len(weekdays) == 7 else _listed(_monday_first(weekdays), _weekday)
    if by_date and by_weekday:
        parts.append(f"on {by_date} {'or on' if cron.either_day else 'if that is'} {by_weekday}")
    elif cron.either_day and (by_date or by_weekday):
        pass  # One of the two allows every day, and either is enough.
    elif by_date or by_weekday:
        parts.append(f"on {by_date or by_weekday}")
    if len(months) < 12:
        parts.append("in " + _listed(sorted(months), lambda month: calendar.month_name[month]))
    return f"{', '.join(parts)}, {cron.zone}"


def _times(minutes: frozenset[int], hours: frozenset[int]) -> str:
    if len(minutes) * len(hours) <= _FEW:
        times = [f"{hour:02}:{minute:02}" for hour in sorted(hours) for minute in sorted(minutes)]
        return "at " + _joined(times)
    step_m = _step(sorted(minutes))
    first = _every(step_m * 60) if step_m else "at minute " + _listed(sorted(minutes), str)
    if len(hours) == 24:
        return first if step_m else f"{first} of every hour"
    many = "hour" if len(hours) == 1 else "hours"
    return f"{first} of the {many} {_listed(sorted(hours), str)}"


def _dates(days: frozenset[int]) -> str:
    dates = sorted(days - {LAST})
    last = "the last day" if LAST in days else ""
    if not dates:
        return f"{last} of the month"
    named = f"day {_listed(dates, str)}"
    return f"{named} and {last} of the month" if last else f"{named} of the month"


def _step(minutes: list[int]) -> int:
    """Return n if these are every n-th minute, also from one hour to the next; else 0."""
    step, odd = divmod(60, len(minutes))
    return step if not odd and step < 60 and minutes == list(range(0, 60, step)) else 0


def _monday_first(weekdays: Iterable[int]) -> list[int]:
    return sorted((day - 1) % 7 for day in weekdays)


def _weekday(day: int) -> str:
    return calendar.day_name[day]


def _listed(values: list[int], name: Callable[[int], str]) -> str:
    """Return sorted values by name, three and more in a row as `a to b`."""
    found: list[str] = []
    start = 0
    for index, value in enumerate(values):
        if index + 1 < len(values) and values[index + 1] == value + 1:
            continue
        run = values[start : index + 1]
        found += [f"{name(run[0])} to {name(run[-1])}"] if len(run) > 2 else [name(each) for each in run]
        start = index + 1
    return _joined(found)


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
