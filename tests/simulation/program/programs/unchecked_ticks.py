"""`coordinated:ticking` with ticks that each node decides by itself."""

from __future__ import annotations

from typing import Any

from coordinated import ticking as app

from coterie.coordination import schedule
from coterie.ports import store

__all__ = ["app"]


def unchecked(puts: Any, deletes: Any, checks: Any) -> store.Commit:
    return store.Commit(puts, deletes)


schedule.Commit = unchecked  # type: ignore[attr-defined,assignment]
