"""`scanning` with scans that go on behind an entry that they have not shown."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from scanning import app

from coterie.state import Item, StrongMap

__all__ = ["app"]

_scan = StrongMap.scan


async def torn(
    strong: StrongMap[Any], prefix: str = "", *, limit: int | None = None
) -> AsyncGenerator[Item[Any], None]:
    count = 0
    async for item in _scan(strong, prefix, limit=limit):
        count += 1
        if count % 4:
            yield item


if not getattr(StrongMap, "is_torn", False):  # Every host imports this, and all share Coterie itself.
    StrongMap.scan = torn  # type: ignore[method-assign]
    StrongMap.is_torn = True  # type: ignore[attr-defined]
