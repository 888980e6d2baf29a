"""`counters:keyed` with a ledger that keeps no replies: each call runs the method."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from counters import keyed as app

from coterie.services.ledger import ReplyLedger

__all__ = ["app"]


async def run(
    self: ReplyLedger, method: Any, key: str, arguments: Any, work: Callable[[], Coroutine[Any, Any, bytes]]
) -> bytes:
    return await work()


ReplyLedger.run = run  # type: ignore[method-assign]
