"""Refusing what cannot be simulated, with the line of the program that asked for it."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import FrameType

from .errors import Refused

__all__ = ["call_site", "refuse"]

_OWN = str(Path(__file__).parent)
_STDLIB = sysconfig.get_path("stdlib")


def call_site() -> str:
    """Return `file:line in function` of the innermost frame that is the program's own.

    Frames of the simulation and of the standard library are passed over; those of installed
    libraries are not, for it may be a library that does it.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the way to a caller's line
    while frame is not None:
        name = frame.f_code.co_filename
        library = name.startswith(_STDLIB) and "site-packages" not in name
        if not name.startswith((_OWN, "<frozen")) and not library:
            return f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return "an unknown place"


def refuse(what: str, hint: str) -> Refused:
    """Return the error to raise for `what`, naming the line that did it."""
    return Refused(f"{what} cannot be simulated, at {call_site()}", hint=hint)
