"""A promise that was not kept."""

from __future__ import annotations

from dataclasses import dataclass

from ...history import Interval

__all__ = ["Broken"]


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that was not kept; or, if `inconclusive`, of which that cannot be said."""

    promise: str
    sentence: str
    witness: tuple[Interval, ...] = ()
    inconclusive: bool = False

    def text(self) -> str:
        """Return the witness, an operation a line."""
        return "\n".join(f"{_span(op)}  {op}" for op in self.witness)


def _span(op: Interval) -> str:
    end = "?" if op.end_ns is None else f"{op.end_ns / 1e9:.3f} s"
    return f"{op.start_ns / 1e9:9.3f} s to {end:<10}"
