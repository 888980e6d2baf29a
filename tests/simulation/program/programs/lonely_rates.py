"""`limited` with nodes that count each by itself."""

from __future__ import annotations

import socket
from typing import Any

from limited import app

from coterie.resilience import shared_rate

__all__ = ["app"]

_move = shared_rate.RateBinding._move


async def alone(binding: Any, stored: str, least: int, most: int) -> tuple[int, float]:
    return await _move(binding, f"{stored}/{socket.gethostname()}", least, most)


shared_rate.RateBinding._move = alone  # type: ignore[method-assign]
