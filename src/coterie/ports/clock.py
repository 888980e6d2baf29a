"""The `Clock` port: all time that Coterie reads comes from here.

Code that waits uses asyncio's own timers, which follow the event loop's clock, so that a simulated
loop moves both. Durations are measured with `monotonic`; `time` is for people and for stored
timestamps, and no decision about order or ownership may rest on it.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; never goes back, stops while the machine sleeps."""
        ...

    def boottime(self) -> float:
        """Return seconds since this machine's boot; goes on while it sleeps.

        Shared by the processes of one machine, so leases that several processes judge are kept in it.
        """
        ...

    def time(self) -> float:
        """Return seconds since 1970-01-01 UTC; may jump either way."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of the event loop's time."""
        ...
