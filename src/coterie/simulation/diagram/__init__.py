"""Space-time diagrams of universes: one self-contained page of HTML and SVG, light or dark.

    result = nursery.run(Request(seed=7, record=200_000))
    Path("universe.html").write_text(render(result, title="universe 7"))

Above the whole universe to scale, below a close look: hosts side by side, time downwards, messages as
arrows, faults as bars, operations with their results, and the witness of a broken promise marked.
"""

from .page import render

__all__ = ["render"]
