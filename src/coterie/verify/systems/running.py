"""An engine that runs already, named by its URL: nothing is done to it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ...engines.system import SystemClock, SystemEntropy
from ...node.engines import open_engine
from ...ports import Engine
from .system import System

__all__ = ["RunningSystem"]


class RunningSystem(System):
    """The system behind a URL, which was there before and stays."""

    lasting: bool = True

    def __init__(self, url: str) -> None:
        self._url = url
        self.name: str = url.partition(":")[0].lower()
        self.settings: Mapping[str, str] = {}
        self._shared: Engine | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shared is not None:
            await self._shared.close()

    async def __aenter__(self) -> Self:
        if self.name == "memory":  # each opening is an engine of its own, so all clients share one
            self._shared = await open_engine(self.url, clock=SystemClock(), entropy=SystemEntropy())
        return self

    @property
    def url(self) -> str:
        return self._url

    async def open(self, client: int) -> Engine:
        if self._shared is not None:
            return _Shared(self._shared)
        return await open_engine(self.url, clock=SystemClock(), entropy=SystemEntropy())


class _Shared:
    """An engine that one of several who use it does not close."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.store = engine.store
        self.log = engine.log
        self.statistics = engine.statistics

    async def close(self) -> None:
        return
