"""The page around the drawings."""

from __future__ import annotations

import html
from collections.abc import Iterator

from ..universe import Result, Verdict
from .detail import draw_detail, window
from .focus import focus
from .overview import draw_overview
from .scene import Scene, compose
from .style import STYLE

__all__ = ["render"]

_TITLES = {
    Verdict.OK: "Every promise was kept",
    Verdict.VIOLATED: "A promise was broken",
    Verdict.CRASHED: "The program failed",
    Verdict.INCONCLUSIVE: "It could not be judged",
}
_MARKERS = "".join(
    f'<marker id="head-{kind}" class="head {kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker>'
    for kind in ("call", "reply", "store", "packet")
)


def render(result: Result, *, title: str, replay: str = "") -> str:
    """Return the page. The universe must have been recorded: see `Request.record`.

    `title` is that of the page, `replay` the command that runs the universe again.
    """
    scene = compose(result)
    close = focus(scene)
    return "".join(
        (
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
            f'<svg width="0" height="0" aria-hidden="true"><defs>{_MARKERS}</defs></svg>',
            *_head(result, title, replay),
            *_faults(scene),
            "<section><h2>The whole universe</h2><p class='hint'>Time to scale. Each stroke is an ",
            "operation; the frame is what the close look shows.</p><div class='scroll'>",
            draw_overview(scene, window(close)),
            "</div></section>",
            "<section><h2>A close look</h2><p class='hint'>Time runs down, and is cut short where ",
            "nothing happens. Point at anything for all of it.</p>",
            _legend(),
            "<div class='scroll'>",
            draw_detail(close),
            "</div></section>",
            *_evidence(result),
            "</body></html>\n",
        )
    )


def _head(result: Result, title: str, replay: str) -> Iterator[str]:
    message = result.message[:1].upper() + result.message[1:]
    yield f"<header class='{result.verdict.value}'><p class='title'>{html.escape(title)}</p>"
    yield f"<h1>{_TITLES[result.verdict]}{_promise(result)}</h1>"
    if message:
        yield f"<p class='message'>{html.escape(message)}</p>"
    yield f"<p class='facts'>seed {result.seed} · {result.time_s:.3f} s of virtual time · "
    yield f"{result.events:,} events · trace {html.escape(result.digest)}</p>"
    if replay:
        yield f"<pre class='replay'>{html.escape(replay)}</pre>"
    yield "</header>"


def _promise(result: Result) -> str:
    return f": {html.escape(result.promise)}" if result.promise else ""


def _faults(scene: Scene) -> Iterator[str]:
    yield "<section><h2>Faults</h2>"
    if not scene.bands:
        yield "<p>None is needed.</p></section>"
        return
    yield "<ol class='faults'>"
    for band in scene.bands:
        lasts_s = band.end_s - band.start_s
        yield (
            f"<li><span class='chip {band.kind}'>F{band.number} {html.escape(band.kind)}</span> "
            f"at {band.start_s:.3f} s{f', for {lasts_s:.3f} s' if lasts_s else ''}: "
            f"{html.escape(band.what)}</li>"
        )
    yield "</ol></section>"


def _legend() -> str:
    entries = (
        ("span operation ok", "operation"),
        ("span call ok", "call"),
        ("span handler ok", "its handler"),
        ("span operation fail", "failed"),
        ("span operation unknown", "outcome unknown"),
        ("span operation witness", "witness"),
    )
    parts = "".join(
        f"<li><svg width='12' height='12'><rect class='{style}' x='1' y='1' width='9' height='10' rx='3'/>"
        f"</svg> {text}</li>"
        for style, text in entries
    )
    return f"<ul class='legend'>{parts}<li>∅ absent</li><li>29·17 value and number of its write</li></ul>"


def _evidence(result: Result) -> Iterator[str]:
    if result.detail:
        name = "Witness" if result.verdict is Verdict.VIOLATED else "Traceback"
        yield f"<section><h2>{name}</h2><pre>{html.escape(result.detail)}</pre></section>"
    if result.output:
        yield "<section><details><summary>What the program printed</summary>"
        yield f"<pre>{html.escape(result.output[-8000:])}</pre></details></section>"
