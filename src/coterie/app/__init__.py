"""What a program declares: services, state, transactions. Pure data; a `Node` runs it."""

from .app import App
from .target import load_app

__all__ = ["App", "load_app"]
