"""Sums that a read may return while changes overlap: what is certainly in, and what may be."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from ..operations import Interval

__all__ = ["Sums"]


class Sums:
    """Changes to one number, and the bounds of what a read of it may return.

    A change is certainly in a read that began after it ended, cannot be in one that ended before it
    began, and may be in any other. A change that failed is in none.
    """

    def __init__(self, changes: Iterable[tuple[Interval, int]]) -> None:
        kept = [(op, change) for op, change in changes if op.outcome != "fail"]
        ends = sorted((op.end, change) for op, change in kept if op.outcome == "ok")
        starts = sorted((op.start, change) for op, change in kept)
        self._ends = [end for end, _ in ends]
        self._starts = [start for start, _ in starts]
        self._certain = _totals(change for _, change in ends)
        self._up_ended = _totals(max(change, 0) for _, change in ends)
        self._up_begun = _totals(max(change, 0) for _, change in starts)
        self._down_ended = _totals(min(change, 0) for _, change in ends)
        self._down_begun = _totals(min(change, 0) for _, change in starts)

    def bounds(self, read: Interval) -> tuple[int, int]:
        """Return the lowest and the highest sum that `read` may return."""
        ended = bisect_left(self._ends, read.start)
        begun = bisect_left(self._starts, read.end)
        certain = self._certain[ended]
        return (
            certain + self._down_begun[begun] - self._down_ended[ended],
            certain + self._up_begun[begun] - self._up_ended[ended],
        )


def _totals(changes: Iterable[int]) -> list[int]:
    return list(accumulate(changes, initial=0))
