"""The command line: thin, everything that it does is in the layers below."""

from .main import main

__all__ = ["main"]
