"""`scanning` with a store that answers scans with what it answered before."""

from __future__ import annotations

from typing import Any

from scanning import app

from coterie.simulation.standin.client import StandInStore

__all__ = ["app"]

_scan = StandInStore.scan


async def cached(store: Any, prefix: str, *, after: str = "", limit: int = 1000) -> Any:
    known: dict[Any, Any] = store.__dict__.setdefault("cache", {})
    if (prefix, after, limit) not in known or not prefix.startswith("scanning/map/"):
        known[prefix, after, limit] = await _scan(store, prefix, after=after, limit=limit)
    return known[prefix, after, limit]


StandInStore.scan = cached  # type: ignore[method-assign]
