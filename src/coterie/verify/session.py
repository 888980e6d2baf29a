"""One client of the system under test: what its workloads share, opened anew when the system moved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ..errors import CoterieError, Outcome, Unavailable
from ..ports import Engine
from .systems.system import System
from .target import Target
from .targets.port import PortTarget
from .terms import Terms

__all__ = ["Open", "Opened", "Session", "open_port"]

_OPEN_S = 10.0


class Opened:
    """What a client has open: its target, and what is to be closed."""

    def __init__(self, target: Target, terms: Terms, close: Callable[[], Awaitable[None]]) -> None:
        self.target = target
        self.terms = terms
        self.close = close


Open = Callable[[System, int, str], Awaitable[Opened]]
"""Opens a system for one client; the last argument is what all its keys begin with."""


async def open_port(system: System, client: int, prefix: str) -> Opened:
    """Open the engine's ports. Raises `Unavailable` for an engine without a store."""
    engine: Engine = await system.open(client)
    if engine.store is None:
        await engine.close()
        raise Unavailable(f"the engine {engine.name} has no store", outcome=Outcome.NOT_APPLIED)
    target = PortTarget(engine.store, engine.log, prefix)
    log = None if engine.log is None else engine.log.guarantees
    return Opened(target, Terms.of(engine.store.guarantees, log), engine.close)


class Session:
    """Belongs to one client. `target` returns what to talk to now."""

    def __init__(self, system: System, client: int, prefix: str, opener: Open) -> None:
        self._system = system
        self._client = client
        self._prefix = prefix
        self._opener = opener
        self._opened: Opened | None = None
        self._generation = -1
        self._lock = asyncio.Lock()

    async def open(self) -> Opened:
        """Return what is open, having opened it if need be. Raises as engines do."""
        async with self._lock:
            if self._opened is None or self._generation != self._system.generation:
                await self._close()
                self._generation = self._system.generation
                try:
                    async with asyncio.timeout(_OPEN_S):
                        self._opened = await self._opener(self._system, self._client, self._prefix)
                except TimeoutError:
                    raise Unavailable(
                        f"{self._system.name} did not answer within {_OPEN_S:g} s",
                        outcome=Outcome.NOT_APPLIED,
                    ) from None
            return self._opened

    async def close(self) -> None:
        """Close what is open."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(CoterieError):
                await opened.close()
