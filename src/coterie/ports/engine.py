"""What an engine is to the node: a bundle of the ports that it offers, opened by URL."""

from __future__ import annotations

from typing import Protocol

from .clock import Clock
from .entropy import Entropy
from .log import Log
from .store import Store

__all__ = ["Engine", "OpenEngine"]


class Engine(Protocol):
    """An open engine. A port that it does not offer is None."""

    @property
    def name(self) -> str:
        """The engine's name, which is also the scheme of its URLs."""
        ...

    @property
    def store(self) -> Store | None: ...

    @property
    def log(self) -> Log | None: ...

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters and states for metrics and for `coterie status`."""
        ...

    async def close(self) -> None:
        """Release everything. Idempotent."""
        ...


class OpenEngine(Protocol):
    """The entry point of an engine, in the group `coterie.engines` under its URL scheme."""

    async def __call__(self, url: str, *, clock: Clock, entropy: Entropy) -> Engine:
        """Open the engine at `url`.

        Raises `InvalidConfiguration` when the URL or the settings behind it cannot be right,
        `CorruptData` when the data cannot be read, `Unavailable` when it cannot be reached.
        """
        ...
