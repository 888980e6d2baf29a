"""Tracebacks as a person wants them who looks for a bug in a program: without the frames of the simulator."""

from __future__ import annotations

from pathlib import Path

__all__ = ["without_simulator"]

_FRAME = '  File "'
_HERE = str(Path(__file__).parent)


def without_simulator(trace: str) -> str:
    """Return the text of a traceback without those frames, unless there are no others."""
    kept: list[str] = []
    frames = skipping = 0
    for line in trace.splitlines():
        if line.startswith(_FRAME):
            skipping = line.startswith(_FRAME + _HERE)
            frames += not skipping
        elif not line.startswith("   "):
            skipping = 0
        if not skipping:
            kept.append(line)
    return "\n".join(kept) if frames else trace.rstrip()
