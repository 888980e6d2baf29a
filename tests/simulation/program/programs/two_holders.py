"""`coordinated:locked` with queues in which the second holds as well."""

from __future__ import annotations

from typing import Any

from coordinated import locked as app

from coterie.coordination import _machine, queueing
from coterie.coordination._machine import Behind, Gone, Held

__all__ = ["app"]


def turn(queue: Any, mine: str) -> Held | Behind | Gone:
    ordered = sorted(queue, key=lambda place: place.version)
    return Held(0) if mine in {place.id for place in ordered[:2]} else _machine.turn(ordered, mine)


queueing.turn = turn
