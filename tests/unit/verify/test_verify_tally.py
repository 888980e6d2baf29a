"""Counting what happened when."""

from __future__ import annotations

import pytest

from coterie.history import Interval
from coterie.verify.tally import Tally, percentile, sparkline


def interval(start_s: float, end_s: float, outcome: str = "ok", error: str | None = None) -> Interval:
    return Interval(
        process=0,
        f="read",
        key=None,
        argument=None,
        result=None,
        outcome=outcome,  # type: ignore[arg-type]
        start=0,
        end=1,
        start_ns=int(start_s * 1e9),
        end_ns=int(end_s * 1e9),
        error=error,
    )


RUN = [
    interval(0.1, 0.2),
    interval(0.2, 0.9),
    interval(1.0, 6.5, "fail", "Conflict: it is at 5"),
    interval(6.0, 7.5, "unknown", "Unavailable"),
    interval(7.0, 9.9),
]


def test_operations_are_counted_when_they_end() -> None:
    tally = Tally.of(RUN, until_s=10, worked_s=10, pieces=10)
    assert [bucket.ok for bucket in tally.buckets] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert [bucket.failed for bucket in tally.buckets] == [0] * 6 + [1, 0, 0, 0]
    assert [bucket.unknown for bucket in tally.buckets] == [0] * 7 + [1, 0, 0]
    assert dict(tally.counts) == {"ok": 3, "failed": 1, "unknown": 1}
    assert dict(tally.errors) == {"Conflict": 1, "Unavailable": 1}
    assert tally.buckets[0].latencies_ms == pytest.approx([100, 700])


def test_the_longest_time_without_success_is_found() -> None:
    tally = Tally.of(RUN, until_s=10, worked_s=10)
    assert (tally.gap_at_s, tally.gap_s) == pytest.approx((0.9, 9.0))
    # When the clients have ended their work, nothing is missing.
    assert Tally.of(RUN, until_s=10, worked_s=2).gap_s == pytest.approx(1.1)


def test_an_operation_without_an_end_counts_as_unknown() -> None:
    silent = Interval(0, "read", None, None, None, "unknown", 0, 1, int(3e9))
    tally = Tally.of([silent], until_s=4, worked_s=4, pieces=4)
    assert tally.counts["unknown"] == tally.buckets[3].unknown == 1


def test_fewer_pieces_count_the_same() -> None:
    tally = Tally.of(RUN, until_s=10, worked_s=10)
    merged = tally.merged(40)
    assert merged.pieces == 40
    assert merged.width_s == pytest.approx(0.25)
    assert sum(bucket.ok for bucket in merged.buckets) == 3
    assert sorted(ms for bucket in merged.buckets for ms in bucket.latencies_ms) == pytest.approx(
        [100, 700, 2900]
    )


def test_a_line_of_bars() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▂▅█"
    assert sparkline([0, 0]) == "  "
    assert sparkline([]) == ""


def test_percentiles() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert percentile([], 0.5) == 0.0
