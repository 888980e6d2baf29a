"""Opens the memory engine."""

from __future__ import annotations

from urllib.parse import urlsplit

from ...errors import InvalidConfiguration
from ...ports.clock import Clock
from ...ports.entropy import Entropy
from .log import MemoryLog
from .store import MemoryStore

__all__ = ["MemoryEngine", "open_engine"]


class MemoryEngine:
    """`Engine` in the memory of this process. Nodes that are to share its data share the object."""

    name = "memory"

    def __init__(self, *, clock: Clock) -> None:
        self._store = MemoryStore(clock=clock)
        self._log = MemoryLog(clock=clock)

    @property
    def store(self) -> MemoryStore:
        return self._store

    @property
    def log(self) -> MemoryLog:
        return self._log

    def statistics(self) -> dict[str, int | float | str]:
        return {**self._store.statistics(), **self._log.statistics()}

    async def close(self) -> None:
        await self._store.close()
        await self._log.close()


async def open_engine(url: str, *, clock: Clock, entropy: Entropy) -> MemoryEngine:
    """Open a new, empty engine at `memory:` or `memory://name`; the name is for people.

    Two opens are two engines, whatever their names. Raises `InvalidConfiguration` for any other URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "memory" or parts.path or parts.query or parts.fragment:
        raise InvalidConfiguration(
            f"{url!r} is no URL of the memory engine", hint="write memory: or memory://name"
        )
    return MemoryEngine(clock=clock)
