"""Counts what happened when: operations by outcome, over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ..history import Interval

__all__ = ["PIECES", "Bucket", "Tally", "percentile", "sparkline"]

PIECES = 120
"""How finely time is cut."""

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(slots=True)
class Bucket:
    """The operations that ended in one piece of time."""

    ok: int = 0
    failed: int = 0
    unknown: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    """Of those that are ok."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The operations of one workload."""

    counts: Counter[str]
    buckets: tuple[Bucket, ...]
    width_s: float
    """How much time each bucket stands for."""
    errors: Counter[str]
    """Errors by the name of their class."""
    gap_s: float
    """The longest time in which nothing succeeded."""
    gap_at_s: float

    @classmethod
    def of(
        cls, intervals: Iterable[Interval], *, until_s: float, worked_s: float, pieces: int = PIECES
    ) -> Tally:
        """Count `intervals` in `pieces` of the time from 0 to `until_s`, by when they ended.

        Gaps are looked for until `worked_s`, as long as clients were to work.
        """
        width_s = max(until_s, 0.001) / pieces
        tally = cls(Counter(), tuple(Bucket() for _ in range(pieces)), width_s, Counter(), 0.0, 0.0)
        successes = []
        for interval in intervals:
            end_s = (interval.start_ns if interval.end_ns is None else interval.end_ns) / 1e9
            bucket = tally.buckets[min(int(end_s / width_s), pieces - 1)]
            if interval.outcome == "ok":
                bucket.ok += 1
                bucket.latencies_ms.append((end_s - interval.start_ns / 1e9) * 1e3)
                successes.append(end_s)
            elif interval.outcome == "fail":
                bucket.failed += 1
            else:
                bucket.unknown += 1
            tally.counts["failed" if interval.outcome == "fail" else interval.outcome] += 1
            if interval.error:
                tally.errors[interval.error.partition(":")[0]] += 1
        return tally._with_gap(sorted(successes), worked_s)

    def _with_gap(self, successes: Sequence[float], until_s: float) -> Tally:
        ends = [0.0, *(moment for moment in successes if moment <= until_s), until_s]
        gap_s, at_s = max((after - before, before) for before, after in pairwise(ends))
        return Tally(self.counts, self.buckets, self.width_s, self.errors, gap_s, at_s)

    @property
    def pieces(self) -> int:
        """How many buckets there are."""
        return len(self.buckets)

    def merged(self, pieces: int) -> Tally:
        """Return the same in fewer pieces, of which PIECES is a multiple."""
        each = len(self.buckets) // pieces
        merged = []
        for start in range(0, len(self.buckets), each):
            group = self.buckets[start : start + each]
            merged.append(
                Bucket(
                    sum(bucket.ok for bucket in group),
                    sum(bucket.failed for bucket in group),
                    sum(bucket.unknown for bucket in group),
                    [ms for bucket in group for ms in bucket.latencies_ms],
                )
            )
        return replace(self, buckets=tuple(merged), width_s=self.width_s * each)

    @property
    def availability(self) -> float:
        """The share of the buckets with any operation in which something succeeded."""
        busy = [bucket for bucket in self.buckets if bucket.ok or bucket.failed or bucket.unknown]
        return sum(bucket.ok > 0 for bucket in busy) / len(busy) if busy else 0.0


def sparkline(values: Sequence[float]) -> str:
    """Return one character a value, scaled to the largest; a blank for zero."""
    top = max(values, default=0)
    if top <= 0:
        return " " * len(values)
    return "".join(_BARS[min(int(v / top * len(_BARS)), len(_BARS) - 1)] if v > 0 else " " for v in values)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` of the sorted values are not above."""
    if not ordered:
        return 0.0
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
