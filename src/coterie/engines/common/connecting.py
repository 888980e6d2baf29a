"""How a call waits until its channel may send."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ...errors import DeadlineExceeded, Outcome

__all__ = ["wait_to_send"]


async def wait_to_send(
    waiting: Awaitable[Any], deadline: float, *, address: str, closed: Callable[[], bool]
) -> None:
    """Wait for a connection, or for room on it, until `deadline`, a time of the loop's clock.

    Returns when `waiting` has ended, also when it was cancelled because the channel was `closed`. Raises
    what it raises, and `DeadlineExceeded`, not applied.
    """
    try:
        async with asyncio.timeout_at(deadline):
            await waiting
    except TimeoutError:
        raise DeadlineExceeded(
            f"{address} could not be reached in time", outcome=Outcome.NOT_APPLIED
        ) from None
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if caller is None or caller.cancelling() or not closed():
            raise
        # Not the caller was cancelled, but the attempt to connect, by `close`.
