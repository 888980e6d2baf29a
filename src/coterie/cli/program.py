"""Errors of the person's own program: its own traceback, without the frames that only led to it."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path

import click

from ..errors import CoterieError, Outcome

__all__ = ["ProgramError", "program_error"]

# Frames of these lead from the command to the program. What the program itself calls is kept.
_OURS = (Path(__file__).resolve().parents[1], Path(click.__file__).resolve().parent)
_PYTHON = Path(sysconfig.get_path("stdlib")).resolve()


class ProgramError(CoterieError):
    """The program raised something that it does not declare. `trace` is its own part of the traceback."""

    code = "program_error"

    def __init__(
        self, message: str, *, hint: str | None = None, outcome: Outcome | None = None, trace: str = ""
    ) -> None:
        super().__init__(message, hint=hint, outcome=outcome)
        self.trace = trace


def program_error(error: Exception, what: str, *, loading: bool = False) -> ProgramError | None:
    """Return what tells a person of `error`, or None if it does not come from the program.

    `what` says who failed. While `loading` nothing can have happened yet.
    """
    trace = traceback.TracebackException.from_exception(error)
    for part in _chain(trace):
        frames = list(part.stack)
        while frames and _leads_there(frames[0].filename):
            del frames[0]
        part.stack = traceback.StackSummary.from_list(frames)
    if not trace.stack and not isinstance(error, SyntaxError):
        return None
    if not trace.stack:
        # A syntax error says by itself where it is; there is nothing that called it.
        trace.stack = None  # type: ignore[assignment]
    name = type(error).__name__
    hint = None
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"install what brings the module {error.name!r} for {sys.executable}"
    return ProgramError(
        f"{what}: {name}: {error}" if str(error) else f"{what}: {name}",
        hint=hint,
        outcome=Outcome.NOT_APPLIED if loading else Outcome.UNKNOWN,
        trace="".join(trace.format()).rstrip(),
    )


def _leads_there(filename: str) -> bool:
    if filename.startswith("<") or filename.endswith(".pyx"):
        return True  # The frozen import system, and uvloop.
    path = Path(filename).resolve()
    if any(path.is_relative_to(folder) for folder in _OURS):
        return True
    return path.is_relative_to(_PYTHON) and "site-packages" not in path.parts


def _chain(trace: traceback.TracebackException) -> list[traceback.TracebackException]:
    found, seen = [trace], {id(trace)}
    for part in found:
        for other in (part.__cause__, part.__context__, *(part.exceptions or ())):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                found.append(other)
    return found
