"""Draws the operations that show a violation: one lane for each process, time to scale."""

from __future__ import annotations

from collections.abc import Sequence

from ...history import Interval
from ...history.operations import describe
from ...simulation.diagram.svg import Drawing

__all__ = ["draw_witness"]

_WIDTH, _LEFT, _RIGHT = 1240, 110, 60
_LANE, _BAR = 40, 13
_SHOWN = 30
_LETTERS = 6.7
_LABEL = 70


def draw_witness(operations: Sequence[Interval]) -> str:
    """Return the drawing; of a long witness its first operations."""
    shown = operations[:_SHOWN]
    if not shown:
        return ""
    processes = list(dict.fromkeys(str(op.process) for op in shown))
    known = [op.end_ns for op in shown if op.end_ns is not None and op.outcome != "unknown"]
    first_ns = min(op.start_ns for op in shown)
    last_ns = max([*known, *(op.start_ns for op in shown)])
    span_ns = max(last_ns - first_ns, 1)
    drawing = Drawing(_WIDTH, len(processes) * _LANE + 34)

    def x(moment_ns: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (moment_ns - first_ns) / span_ns

    free = dict.fromkeys(processes, 0.0)
    for place, process in enumerate(processes):
        y = place * _LANE + 26
        drawing.text(_LEFT - 10, y + 10, process, "lane-name", anchor="end")
        drawing.line(_LEFT, y + _BAR / 2, _WIDTH - _RIGHT, y + _BAR / 2, "life")
    for op in shown:
        process = str(op.process)
        y = processes.index(process) * _LANE + 26
        unknown = op.outcome == "unknown" or op.end_ns is None
        start = x(op.start_ns)
        end = _WIDTH - _RIGHT if op.end_ns is None or unknown else max(x(op.end_ns), start + 4)
        style = "unknown" if unknown else "witness" if op.outcome == "ok" else "fail"
        label = describe(op)
        drawing.box(start, y, end - start, _BAR, f"span operation {style}", tip=_tip(op), round_=3)
        # Labels that would lie on the one before are left out: pointing at the bar shows it.
        text = label if len(label) <= _LABEL else f"{label[: _LABEL - 2]} …"
        left = min(start, _WIDTH - len(text) * _LETTERS - 4)
        if left >= free[process]:
            drawing.text(left, y - 4, text, "bar-label", tip=_tip(op))
            free[process] = left + len(text) * _LETTERS + 6
    bottom = len(processes) * _LANE + 30
    drawing.text(_LEFT, bottom, f"{first_ns / 1e9:.3f} s", "time")
    drawing.text(_WIDTH - _RIGHT, bottom, f"{last_ns / 1e9:.3f} s", "time", anchor="end")
    return drawing.render("the operations of the witness", fluid=True)


def _tip(op: Interval) -> str:
    until = "?" if op.end_ns is None or op.outcome == "unknown" else f"{op.end_ns / 1e9:.3f} s"
    error = f"\n{op.error}" if op.error else ""
    return f"{describe(op)}\nprocess {op.process}, {op.start_ns / 1e9:.3f} s to {until}{error}"
