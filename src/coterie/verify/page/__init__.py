"""A page that needs nothing else: what was promised, when what happened, and the witness of a violation."""

from .page import render

__all__ = ["render"]
