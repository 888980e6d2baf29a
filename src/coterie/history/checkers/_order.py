"""Numbers that must rise in real time: fencing tokens, offsets, places in a queue."""

from __future__ import annotations

from collections.abc import Iterable

from ..operations import Interval

__all__ = ["falls"]


def falls(numbered: Iterable[tuple[Interval, int]]) -> tuple[Interval, Interval] | None:
    """Return two operations of which the first ended before the second began, with a higher number.

    Takes O(n log n).
    """
    by_start = sorted(numbered, key=lambda item: item[0].start)
    by_end = sorted(by_start, key=lambda item: item[0].end)
    highest: tuple[Interval, int] | None = None
    index = 0
    for op, number in by_start:
        while by_end[index][0].end < op.start:
            if highest is None or by_end[index][1] > highest[1]:
                highest = by_end[index]
            index += 1
        if highest is not None and highest[1] > number:
            return highest[0], op
    return None
