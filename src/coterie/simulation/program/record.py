"""Writes a notebook into the record of a universe, from which diagrams are drawn."""

from __future__ import annotations

from ..world import World
from .evidence import Noted
from .notebook import Notebook

__all__ = ["write_down"]


def write_down(world: World, notebook: Notebook) -> None:
    """Add an event of the kind `operation` or `call` for everything that was noted."""
    witness = {interval.start for interval in notebook.witness}
    for noted in notebook.operations:
        _write(world, noted, "operation", witness)
    for noted in notebook.other():
        _write(world, noted, "operation", witness)
    for call in notebook.calls:
        ran = [(each.host, each.start_ns / 1e9, _end_s(each), each.outcome) for each in call.handled]
        _write(world, call, "call", witness, target=call.target, handled=ran, quiet=call.quiet)


def _end_s(noted: Noted) -> float | None:
    return None if noted.end_ns is None else noted.end_ns / 1e9


def _write(world: World, noted: Noted, kind: str, witness: set[int], **detail: object) -> None:
    world.trace.note(
        noted.start_ns / 1e9,
        noted.host,
        kind,
        f=noted.f,
        key=noted.key,
        argument=noted.argument,
        result=noted.result,
        outcome=noted.outcome,
        error=noted.error,
        end_s=_end_s(noted),
        witness=noted.start in witness,
        **detail,
    )
