"""The whole universe on one line for each host, time to the right and to scale."""

from __future__ import annotations

import math
from collections.abc import Callable

from .scene import Scene, Span
from .svg import Drawing

__all__ = ["draw_overview"]

_LEFT, _RIGHT, _TOP, _ROW = 110.0, 20.0, 24.0, 22.0
_WIDTH = 1400.0
_MOST_TICKS = 20_000


def draw_overview(scene: Scene, window: tuple[float, float]) -> str:
    """Return the drawing; `window` is the time that is shown in detail elsewhere."""
    drawing = Drawing(_WIDTH, _TOP + _ROW * len(scene.hosts) + 26)
    scale = (_WIDTH - _LEFT - _RIGHT) / max(scene.end_s, 1e-9)

    def x(time_s: float) -> float:
        return _LEFT + time_s * scale

    bottom = _TOP + _ROW * len(scene.hosts)
    y = {name: _TOP + _ROW * (index + 0.5) for index, name in enumerate(scene.hosts)}
    left, right = x(window[0]), x(window[1])
    drawing.box(left - 3, _TOP - 6, right - left + 6, bottom - _TOP + 10, "window", round_=4)
    last = -math.inf
    for band in scene.bands:
        for name in band.hosts or scene.hosts:
            start, end = x(band.start_s), x(band.end_s)
            style = f"band {band.kind}"
            drawing.box(start, y[name] - 8, end - start, 16, style, tip=band.what, round_=2)
        last = max(x(band.start_s), last + 20)
        drawing.text(last, _TOP - 9, f"F{band.number}", "fault-name", anchor="middle", tip=band.what)
    for name in scene.hosts:
        drawing.text(_LEFT - 10, y[name] + 4, name, "host-name", anchor="end")
        drawing.line(x(0), y[name], x(scene.end_s), y[name], "life")
    for outage in scene.outages:
        drawing.line(x(outage.start_s), y[outage.host], x(outage.end_s), y[outage.host], "down")
    for span in scene.spans[:_MOST_TICKS]:
        if not span.witness:
            style = _style(span)
            drawing.line(x(span.start_s), y[span.host] - 5, x(span.start_s), y[span.host] + 5, style)
    for span in scene.witness:
        drawing.diamond(x(span.start_s), y[span.host], 6, "witness", tip=span.detail)
    _axis(drawing, x, scene.end_s, bottom)
    return drawing.render("The whole universe, to scale", fluid=True)


def _style(span: Span) -> str:
    return f"tick {span.outcome}"


def _axis(drawing: Drawing, x: Callable[[float], float], end_s: float, y: float) -> None:
    step = 10 ** math.floor(math.log10(max(end_s, 1e-6) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if end_s / (step * factor) <= 12)
    for index in range(int(end_s / step) + 1):
        place = x(index * step)
        drawing.line(place, y, place, y + 4, "axis")
        drawing.text(place, y + 17, f"{index * step:g} s", "time", anchor="middle")
