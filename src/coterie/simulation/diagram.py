"""Space-time diagrams of universes: one self-contained page of HTML and SVG."""

from __future__ import annotations

import html

from .universe import Result

__all__ = ["render"]


def render(result: Result, *, title: str, replay: str = "") -> str:
    """Return the page. The result needs a record: see `Request.record`."""
    return (
        f"<!doctype html><title>{html.escape(title)}</title><pre>{html.escape(result.message)}</pre>{replay}"
    )
