"""What a node does without being asked: `@app.leader` runs on the node that leads, and on no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import CoterieError, LeaseLost
from ..ports.entropy import Entropy
from ._machine import backoff_s
from .election import Election
from .lease import Lease

__all__ = ["Duties", "LeaderDuty"]

_log = logging.getLogger("coterie.coordination")

_LONGEST_BACKOFF_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class LeaderDuty:
    """A coroutine function for the leader of an election."""

    name: str
    function: Callable[[Lease], Awaitable[object]]


class Duties:
    """Runs what was declared, until it is stopped. Started in the context of the node."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, leaders: Iterable[LeaderDuty]) -> None:
        """Begin to campaign for each of `leaders`."""
        for duty in leaders:
            self.run(self._lead(duty), f"coterie-leader-{duty.name}")

    def run(self, duty: Coroutine[Any, Any, None], name: str) -> None:
        """Run one more until `stop`."""
        task = asyncio.create_task(duty, name=name)
        task.add_done_callback(_tell_if_it_failed)
        self._tasks.append(task)

    async def stop(self) -> None:
        """Cancel them all and wait until they have ended; what they held is given back. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lead(self, duty: LeaderDuty) -> None:
        failures = 0
        while True:
            try:
                async with Election(duty.name) as lease:
                    _log.info("this node leads %r with the token %d", duty.name, lease.token)
                    await duty.function(lease)
                    failures = 0
                    # It is done, and shall not be done again by the next one: keep the office.
                    await lease.wait_lost()
            except LeaseLost as error:
                _log.warning("this node leads %r no longer: %s", duty.name, error.message)
                failures = 0
            except CoterieError as error:
                _log.warning("leading %r failed: %s", duty.name, error)
            except Exception:  # noqa: BLE001 - it is the program's own, and the node goes on
                _log.exception("leading %r failed; another node may do better", duty.name)
            failures += 1
            pause_s = backoff_s(failures, first_s=0.05, longest_s=_LONGEST_BACKOFF_S)
            await asyncio.sleep(pause_s * (0.5 + 0.5 * self._entropy.random()))


def _tell_if_it_failed(task: asyncio.Task[None]) -> None:
    # Nobody awaits a duty before the node stops, and its end would look as if there were nothing to do.
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s has ended on this node, by an error", task.get_name(), exc_info=error)
