"""Several processes that share one SQLite file, as the nodes of a program on one machine do."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from ...errors import CoterieError, Unavailable
from ...ports import Engine
from .process import Process
from .system import System, Victim

__all__ = ["ProcessSystem"]

_ROLE_S = 0.5


class ProcessSystem(System):
    """`members` processes on the file of `engine`: a URL, or `sqlite` for a new one that is deleted."""

    faults: frozenset[str] = frozenset({"kill", "pause", "restart"})

    def __init__(self, engine: str, *, members: int, settings: Mapping[str, str]) -> None:
        self.name: str = "sqlite"
        self.version: str = sqlite3.sqlite_version
        self.origin: str = "Python's sqlite3"
        self.settings: Mapping[str, str] = settings
        self.lasting: bool = engine != "sqlite"
        self._url = engine
        self._members = members
        self.victim: Victim | None = None
        self._folder: Path | None = None
        self.processes: list[Process] = []

    @property
    def url(self) -> str:
        return self._url

    async def __aenter__(self) -> Self:
        if not self.lasting:
            self._folder = Path(tempfile.mkdtemp(prefix="coterie-verify-"))
            self._url = f"sqlite:///{self._folder}/verify.db"
        if self.settings:
            self._url += ("&" if "?" in self._url else "?") + urlencode(dict(self.settings))
        self.processes = [Process(self._url) for _ in range(self._members)]
        try:
            for process in self.processes:
                await process.start()
        except BaseException:
            await self._end()
            raise
        self.victim = _Processes(self.processes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(self._end())

    async def _end(self) -> None:
        await asyncio.gather(*(process.stop() for process in self.processes))
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def open(self, client: int) -> Engine:
        return self.processes[client % len(self.processes)]


class _Processes:
    """`Victim`: the processes. The one that writes leads."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes

    @property
    def size(self) -> int:
        return len(self._processes)

    def running(self, member: int) -> bool:
        return self._processes[member].state == "running"

    async def leader(self) -> int:
        for member, process in enumerate(self._processes):
            with suppress(CoterieError):
                if await process.ask("role", within_s=_ROLE_S) == "writer":
                    return member
        raise Unavailable("no process writes now")

    async def kill(self, member: int) -> None:
        await self._processes[member].kill()

    async def stop(self, member: int) -> None:
        await self._processes[member].stop()

    async def start(self, member: int) -> None:
        await self._processes[member].start()

    async def pause(self, member: int) -> None:
        self._processes[member].pause()

    async def resume(self, member: int) -> None:
        self._processes[member].resume()

    async def cut(self, member: int, how: str) -> None:
        raise Unavailable("processes on one file have no network between them")

    async def heal(self) -> None:
        for process in self._processes:
            process.resume()
            if process.state == "stopped":
                await process.start()

    async def promote(self, member: int) -> None:
        raise Unavailable("the processes choose the one that writes by themselves")
