"""Processes that increment a counter while they hold a lock or lead, as `lock_worker.py` does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from coterie import App

__all__ = ["Worker", "check_increments", "worker"]

WORKER = str(Path(__file__).parent / "lock_worker.py")


class Worker:
    """A process, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[tuple[str, str]] = []
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            word, _, rest = line.decode().strip().partition(" ")
            self.said.append((word, rest))
            self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def count(self, word: str) -> int:
        return sum(said == word for said, _ in self.said)

    async def more(self, word: str) -> None:
        """Return when it says `word` once more."""
        before = self.count(word)
        await self.until(lambda: self.count(word) > before)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@asynccontextmanager
async def worker(url: str, what: str) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        WORKER,
        url,
        what,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "COTERIE_LEASE_S": "1.0"},
    )
    started = Worker(process)
    try:
        await started.until(lambda: started.count("ready"))
        yield started
    finally:
        await started.end()


async def check_increments(url: str, *workers: Worker) -> None:
    """Demand that no increment was lost, and no token given twice. The workers have ended."""
    written = [int(rest) for each in workers for word, rest in each.said if word == "wrote"]
    tokens = [int(rest) for each in workers for word, rest in each.said if word == "has"]
    assert len(set(written)) == len(written), "an increment was lost"
    assert len(set(tokens)) == len(tokens), "a token was given twice"
    app = App("stopped")
    counters = app.map("counters", int)
    async with app.connect(url):
        assert await counters.get("n") in {max(written), max(written) + 1}, "the last answer may be lost"
