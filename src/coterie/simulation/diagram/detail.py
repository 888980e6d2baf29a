"""The close look: hosts side by side, time downwards, messages as arrows between them.

What happens within milliseconds and what happens within minutes must both be seen. So moments follow
each other at distances that grow with the logarithm of the time between them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort

from .scene import Arrow, Scene
from .svg import Drawing

__all__ = ["draw_detail", "window"]

_LEFT, _TOP = 92.0, 54.0
_WIDTH = 1330.0
"""How wide the columns are together at least, if that does not make them too wide."""
_COLUMN_MIN, _COLUMN_MAX = 120.0, 330.0
_LABEL_PX = 6.15
_MARGIN = 32.0
_ROW_PX, _STEP_PX = 16.0, 5.0


def window(scene: Scene) -> tuple[float, float]:
    """Return the first and the last moment that the close look shows."""
    times = _moments(scene)
    return (times[0], times[-1]) if times else (0.0, scene.end_s)


def _moments(scene: Scene) -> list[float]:
    times: set[float] = set()
    for span in scene.spans:
        times.add(span.start_s)
        if span.end_s is not None:
            times.add(span.end_s)
    for arrow in scene.arrows:
        times.add(arrow.from_s)
        if arrow.to_s is not None:
            times.add(arrow.to_s)
    for band in scene.bands:
        times.update((band.start_s, band.end_s))
    for outage in scene.outages:
        if outage.host in scene.hosts:
            times.update((outage.start_s, outage.end_s))
    return sorted(times)


class _Scale:
    """Where on the page a moment is."""

    def __init__(self, scene: Scene) -> None:
        self.times = _moments(scene)
        labelled = {span.start_s for span in scene.spans} | {band.start_s for band in scene.bands}
        self.places: list[float] = []
        self.gaps: list[tuple[float, float, float]] = []
        """Where time was cut short: from, to, and how much of it."""
        place, before, last_label = _TOP, None, -_ROW_PX
        for time in self.times:
            gap_s = 0.0 if before is None else time - before
            space = 0.0 if before is None else _STEP_PX + 5.0 * math.log10(1 + gap_s * 1000)
            if gap_s > 0.25:
                self.gaps.append((place + 4, place + space + 10, gap_s))
                space += 14
            if time in labelled and place + space < last_label + _ROW_PX:
                space = last_label + _ROW_PX - place
            place += space
            if time in labelled:
                last_label = place
            self.places.append(place)
            before = time
        self.end = place + 24

    def __call__(self, time_s: float) -> float:
        index = bisect_left(self.times, time_s)
        return self.places[index] if index < len(self.places) else self.end - 12


def draw_detail(scene: Scene) -> str:
    """Return the drawing of a scene that was narrowed down."""
    scale = _Scale(scene)
    columns = _columns(scene)
    x, right = {}, _LEFT
    for name, width in columns.items():
        x[name] = right + 14
        right += width
    drawing = Drawing(right + 10, scale.end + 10)
    for band in scene.bands:
        top, bottom = scale(band.start_s), scale(band.end_s)
        for name in band.hosts or tuple(x):
            if name in x:
                place = x[name] - 11
                style = f"band {band.kind}"
                drawing.box(place, top, 22, max(bottom - top, 4), style, tip=band.what, round_=3)
        drawing.line(_LEFT - 12, top, drawing.width - 10, top, "fault-line")
        drawing.text(_LEFT - 16, top + 4, f"F{band.number} {band.kind}", "fault-name", anchor="end")
    for name in scene.hosts:
        drawing.text(x[name], 22, name, "host-name", anchor="start")
        drawing.line(x[name], 34, x[name], scale.end, "life")
    for outage in scene.outages:
        if outage.host in x:
            drawing.line(
                x[outage.host], scale(outage.start_s), x[outage.host], scale(outage.end_s), "down wide"
            )
            drawing.cross(x[outage.host], scale(outage.start_s), 5, "cross")
    for top, bottom, gap_s in scale.gaps:
        drawing.text(8, (top + bottom) / 2 + 3, _duration(gap_s), "gap")
        drawing.line(52, (top + bottom) / 2, drawing.width - 10, (top + bottom) / 2, "gap-line")
    for arrow in scene.arrows:
        _arrow(drawing, arrow, x, scale)
    _spans(drawing, scene, x, scale, columns)
    return drawing.render("The close look")


def _columns(scene: Scene) -> dict[str, float]:
    """Return how wide the column of each host is: by its longest label, and a share of what is left."""
    longest = dict.fromkeys(scene.hosts, 0)
    for span in scene.spans:
        if span.host in longest:
            longest[span.host] = max(longest[span.host], len(span.label))
    wanted = {
        name: min(max(_MARGIN + 12 + length * _LABEL_PX, _COLUMN_MIN), _COLUMN_MAX)
        for name, length in longest.items()
    }
    share = max(0.0, _WIDTH - _LEFT - sum(wanted.values())) / max(1, len(wanted))
    return {name: min(width + share, _COLUMN_MAX) for name, width in wanted.items()}


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _arrow(drawing: Drawing, arrow: Arrow, x: dict[str, float], scale: _Scale) -> None:
    if arrow.source not in x or arrow.target not in x or arrow.source == arrow.target:
        return
    start_x, start_y, end_x = x[arrow.source], scale(arrow.from_s), x[arrow.target]
    if arrow.to_s is None:
        middle = start_x + (end_x - start_x) * 0.6
        drawing.line(start_x, start_y, middle, start_y + 12, f"arrow {arrow.kind} lost")
        drawing.cross(middle, start_y + 12, 4, "cross")
        return
    side = 5 if end_x > start_x else -5
    drawing.line(
        start_x, start_y, end_x - side, scale(arrow.to_s), f"arrow {arrow.kind}", marker=f"head-{arrow.kind}"
    )


def _spans(
    drawing: Drawing, scene: Scene, x: dict[str, float], scale: _Scale, columns: dict[str, float]
) -> None:
    taken: dict[str, list[float]] = {}
    busy: dict[str, list[tuple[float, int]]] = {}
    last_time = -_ROW_PX
    for span in scene.spans:
        if span.host not in x:
            continue
        top = scale(span.start_s)
        bottom = top + 10 if span.end_s is None else scale(span.end_s)
        lane = _lane(busy.setdefault(span.host, []), top, max(bottom, top + 5))
        left = x[span.host] - 4 + 6 * lane
        style = f"span {span.kind} {span.outcome}{' witness' if span.witness else ''}"
        drawing.box(left, top, 8, max(bottom - top, 5), style, tip=span.detail, round_=3)
        if span.end_s is None or span.outcome == "unknown":
            drawing.text(left + 4, max(bottom, top + 5) + 10, "?", "unknown-mark", anchor="middle")
        place = _free(taken.setdefault(span.host, []), top + 4)
        room = int((columns[span.host] - _MARGIN + 6 - 6 * lane) / _LABEL_PX)
        label = span.label if len(span.label) <= room else f"{span.label[: room - 1]}…"
        weight = "label witness" if span.witness else f"label {span.kind}"
        drawing.text(left + 13, place, label, weight, tip=span.detail)
        if top >= last_time + _ROW_PX - 2:
            drawing.text(_LEFT - 16, top + 4, f"{span.start_s:.3f} s", "time", anchor="end")
            last_time = top


def _lane(busy: list[tuple[float, int]], top: float, bottom: float) -> int:
    """Return the first lane that is free from `top` on, and take it until `bottom`."""
    busy[:] = [(end, lane) for end, lane in busy if end > top]
    used = {lane for _, lane in busy}
    lane = next(lane for lane in range(len(used) + 1) if lane not in used)
    busy.append((bottom, lane))
    return lane


def _free(taken: list[float], place: float) -> float:
    """Return the first place for a label at or below `place`."""
    for other in taken:
        if abs(other - place) < 12:
            place = other + 12
    insort(taken, place)
    return place
