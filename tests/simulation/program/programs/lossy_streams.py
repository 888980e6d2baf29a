"""`streaming` with a wire that now and then loses an item."""

from __future__ import annotations

from collections import deque
from typing import Any

from streaming import app

from coterie.engines.tcp import channel

__all__ = ["app"]


class Lossy(deque[Any]):
    """Forgets every seventh that is added."""

    added = 0

    def append(self, item: Any, /) -> None:
        self.added += 1
        if self.added % 7:
            super().append(item)


class LossyIncoming(channel._Incoming):
    def __init__(self, deadline: float) -> None:
        super().__init__(deadline)
        self.items = Lossy()


channel._Incoming = LossyIncoming  # type: ignore[misc]
