"""The operating system's clocks."""

from __future__ import annotations

import asyncio
import time

__all__ = ["SystemClock"]

# macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC, unlike `time.monotonic`, goes on while it sleeps.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """`Clock` on the clocks of the operating system."""

    __slots__ = ()

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(_BOOTTIME)

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
