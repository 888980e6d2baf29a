"""What of a universe is worth a close look: the witness, the faults, and what happened around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .scene import Arrow, Scene, Span

__all__ = ["focus"]

_AROUND = 14
"""How many other operations of the keys of a witness are shown."""


def focus(scene: Scene, *, most: int = 60) -> Scene:
    """Return the scene with at most about `most` of its operations and calls, and their messages."""
    chosen: dict[Span, None] = {}
    for group in (scene.witness, *_around(scene)):
        for span in group:
            if len(chosen) >= most:
                break
            chosen.setdefault(span, None)
    for span in list(chosen):
        chosen.update(dict.fromkeys(_company(scene, span)))
    spans = [span for span in scene.spans if span in chosen]
    arrows = list(_arrows(scene, spans))
    involved = {span.host for span in spans} | {arrow.target for arrow in arrows}
    involved |= {name for band in scene.bands for name in band.hosts if len(band.hosts) < len(scene.hosts)}
    hosts = [name for name in scene.hosts if name in involved]
    return replace(scene, hosts=hosts or scene.hosts, spans=spans, arrows=arrows)


def _around(scene: Scene) -> Iterable[Sequence[Span]]:
    """Yield groups of spans, the most telling first."""
    plain = [span for span in scene.spans if span.kind != "handler"]
    if scene.witness:
        keys = {span.key for span in scene.witness}
        times = [span.start_s for span in scene.witness]
        near = [span for span in plain if span.key in keys and not span.witness]
        yield sorted(near, key=lambda span: min(abs(span.start_s - time) for time in times))[:_AROUND]
        yield [span for span in plain if span.outcome == "unknown" and times[0] <= span.start_s <= times[-1]]
        return
    unknown = [span for span in plain if span.outcome == "unknown"]
    for span in unknown:
        after = [other for other in plain if other.host == span.host and other.start_s > span.start_s]
        yield [span, *after[:2]]
    for band in scene.bands:
        yield [span for span in plain if band.start_s - 0.1 <= span.start_s <= band.end_s + 0.1][:12]
    yield plain[-20:]


def _company(scene: Scene, span: Span) -> Iterable[Span]:
    """Yield what belongs to a span: the handlers of a call, what they did, and the call of a handler."""
    if span.kind != "operation":
        for other in scene.spans:
            if other.call == span.call:
                yield other
                if other.kind == "handler":
                    yield from _within(scene, other)
        return
    for other in scene.spans:
        if other.kind == "handler" and other.host == span.host and _covers(other, span):
            yield other
            yield from (each for each in scene.spans if each.call == other.call)
            return


def _within(scene: Scene, handler: Span) -> Iterable[Span]:
    for other in scene.spans:
        if other.kind == "operation" and other.host == handler.host and _covers(handler, other):
            yield other


def _covers(outer: Span, inner: Span) -> bool:
    end_s = outer.start_s + 5.0 if outer.end_s is None else outer.end_s
    return outer.start_s <= inner.start_s <= end_s


def _arrows(scene: Scene, spans: Sequence[Span]) -> Iterable[Arrow]:
    moments = {(span.host, span.start_s) for span in spans} | {
        (span.host, span.end_s) for span in spans if span.kind == "handler"
    }
    for arrow in scene.arrows:
        if arrow.kind != "packet" and (arrow.source, arrow.from_s) in moments:
            yield arrow
    if not spans:
        yield from [arrow for arrow in scene.arrows if arrow.kind == "packet"][-80:]
    if "engine" not in scene.hosts:
        return
    for span in spans:
        if span.kind == "operation":
            there_s = None if span.end_s is None else (span.start_s + span.end_s) / 2
            lost = span.outcome == "unknown"
            yield Arrow(span.host, span.start_s, "engine", None if lost else there_s, "store")
            if not lost and there_s is not None:
                yield Arrow("engine", there_s, span.host, span.end_s, "store")
