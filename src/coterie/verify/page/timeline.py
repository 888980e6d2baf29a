"""Draws successes, errors and latencies of all workloads over time, with the faults behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ...simulation.diagram.svg import Drawing
from ..nemesis import Done
from ..report import Part, Report
from ..tally import Bucket, percentile

__all__ = ["draw_timeline"]

_WIDTH = 1240
_LEFT, _RIGHT = 96, 24
_TAGS, _TAG = 34, 15
_COUNTS, _LATENCIES, _GAP = 56, 56, 22
_MS = (0.1, 10_000.0)
"""The ends of the logarithmic scale of latencies, in milliseconds."""
_LETTERS = 7.0


def draw_timeline(report: Report) -> str:
    """Return the drawing: a lane for the faults, then for each workload its counts and its latencies."""
    lane = _COUNTS + _LATENCIES + _GAP
    bottom = _TAGS + len(report.parts) * lane
    drawing = Drawing(_WIDTH, bottom + 22)
    timeline = _Timeline(drawing, report)
    timeline.faults(bottom)
    for place, part in enumerate(report.parts):
        timeline.lane(part, _TAGS + place * lane)
    timeline.axis(bottom)
    return drawing.render("operations and faults over time", fluid=True)


class _Timeline:
    def __init__(self, drawing: Drawing, report: Report) -> None:
        self._drawing = drawing
        self._report = report
        self._until_s = max(report.elapsed_s, 0.001)

    def _x(self, moment_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(moment_s / self._until_s, 1.0)

    def faults(self, bottom: float) -> None:
        drawing = self._drawing
        drawing.text(_LEFT - 8, 18, "faults", "lane-name", anchor="end")
        for done, start, end in self._zones():
            tip = f"{done} at {done.start_s:.2f} s, for {self._end_s(done) - done.start_s:.2f} s"
            drawing.box(start, _TAG + 8, end - start, bottom - _TAG - 8, "fault-zone", tip=tip)
            whom = f"{done.member}{'*' if done.leader else ''}"
            names = (f"{done.kind} {whom}", f"{done.kind[0].upper()} {whom}")
            drawing.box(start, 6, max(end - start, 4), _TAG + 2, "fault-tag", tip=tip, round_=3)
            fits = (name for name in names if end - start > len(name) * _LETTERS + 6)
            drawing.text(start + 4, 18, next(fits, ""), "fault-tag-name", tip=tip)

    def _zones(self) -> Iterator[tuple[Done, float, float]]:
        for done in self._report.faults:
            yield done, self._x(done.start_s), self._x(self._end_s(done))

    def _end_s(self, done: Done) -> float:
        return self._until_s if done.end_s is None else done.end_s

    def lane(self, part: Part, top: float) -> None:
        drawing, buckets = self._drawing, part.tally.buckets
        base = top + _COUNTS
        drawing.text(_LEFT - 8, top + 16, part.workload.name, "lane-name", anchor="end")
        most = max((bucket.ok + bucket.failed + bucket.unknown for bucket in buckets), default=0) or 1
        drawing.text(
            _LEFT - 8, top + 32, f"{most / part.tally.width_s:,.0f}/s", "scale", anchor="end", tip="the most"
        )
        drawing.line(_LEFT, base, _WIDTH - _RIGHT, base, "grid")
        width = (_WIDTH - _LEFT - _RIGHT) / len(buckets)
        for place, bucket in enumerate(buckets):
            self._bars(bucket, place, width, base, (_COUNTS - 6) / most)
        self._latencies(buckets, base + 4, width)

    def _bars(self, bucket: Bucket, place: int, width: float, base: float, scale: float) -> None:
        counts = (("ok", bucket.ok), ("failed", bucket.failed), ("unknown", bucket.unknown))
        at_s = place * self._until_s / self._report.parts[0].tally.pieces
        tip = f"from {at_s:.1f} s: " + ", ".join(f"{count} {name}" for name, count in counts)
        for name, count in counts:
            if count:
                height = max(count * scale, 1.5 if name == "unknown" else 0.5)
                base -= height
                self._drawing.box(
                    _LEFT + place * width, base, max(width - 0.8, 0.6), height, f"bar-{name}", tip=tip
                )

    def _latencies(self, buckets: Sequence[Bucket], top: float, width: float) -> None:
        drawing = self._drawing
        for ms, label in ((1.0, "1 ms"), (100.0, "100 ms"), (10_000.0, "10 s")):
            y = _height(ms, top)
            drawing.line(_LEFT, y, _WIDTH - _RIGHT, y, "grid soft")
            drawing.text(_LEFT - 8, y + 3, label, "scale", anchor="end")
        for share, style in ((0.99, "p99"), (0.5, "p50")):
            points: list[tuple[float, float]] = []
            for place, bucket in enumerate(buckets):
                if bucket.latencies_ms:
                    ms = percentile(sorted(bucket.latencies_ms), share)
                    points.append((_LEFT + (place + 0.5) * width, _height(ms, top)))
                    continue
                self._path(points, style)
                points = []
            self._path(points, style)

    def _path(self, points: Sequence[tuple[float, float]], style: str) -> None:
        if len(points) == 1:
            (x, y) = points[0]
            points = [(x - 2, y), (x + 2, y)]
        for (x1, y1), (x2, y2) in pairwise(points):
            self._drawing.line(x1, y1, x2, y2, f"latency {style}")

    def axis(self, bottom: float) -> None:
        drawing, report = self._drawing, self._report
        drawing.line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, "axis")
        step_s = _step(self._until_s)
        for number in range(int(self._until_s / step_s) + 1):
            x = self._x(number * step_s)
            drawing.line(x, bottom, x, bottom + 4, "axis")
            drawing.text(x, bottom + 16, f"{number * step_s:g} s", "time", anchor="middle")
        over = self._x(report.worked_s)
        drawing.line(over, _TAG + 8, over, bottom, "stage")
        drawing.text(
            over - 4,
            _TAG + 18,
            "work over",
            "time",
            anchor="end",
            tip="everything is healed; all must succeed",
        )


def _height(ms: float, top: float) -> float:
    low, high = (math.log10(end) for end in _MS)
    place = (math.log10(min(max(ms, _MS[0]), _MS[1])) - low) / (high - low)
    return top + (_LATENCIES - 4) * (1 - place)


def _step(seconds: float) -> float:
    return next((step for step in (1, 2, 5, 10, 30, 60, 300, 600, 3600) if seconds / step <= 14), 86_400)
