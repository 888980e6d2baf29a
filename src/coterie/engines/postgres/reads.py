"""Reads of one page of the log by many at once share one question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...errors import Overloaded
from ...ports.log import Segment
from ..common.shared import fail

__all__ = ["Page", "Reads"]

Page = tuple[str, int, int, int]
"""A topic, a partition, the offset to read from, and how many records at most."""


class Reads:
    """Has pages read by `read`, no more than `at_once` at a time, in the order in which they were asked for.

    Who asks for a page that another waits for shares its answer, unless that was asked for already: a read
    must see all that was appended before it. `read` gets a page and the loop's time when it was wanted.
    At most `most` pages wait; one more is `Overloaded`.
    """

    def __init__(self, read: Callable[[Page, float], Awaitable[Segment]], at_once: int, most: int) -> None:
        self._read = read
        self._at_once = at_once
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Page, tuple[float, list[asyncio.Future[Segment]]]] = {}
        self._workers: list[asyncio.Task[None]] = []

    def read(self, page: Page) -> asyncio.Future[Segment]:
        """Return the future of the page."""
        future: asyncio.Future[Segment] = self._loop.create_future()
        known = self._waiting.get(page)
        if known is not None:
            known[1].append(future)
            return future
        if len(self._waiting) >= self._most:
            raise Overloaded(f"{len(self._waiting)} pages wait to be read", hint="read fewer at once")
        self._waiting[page] = (self._loop.time(), [future])
        if len(self._workers) < self._at_once:
            self._workers.append(self._loop.create_task(self._work(), name="coterie-postgres-reads"))
        return future

    async def _work(self) -> None:
        try:
            while self._waiting:
                page = next(iter(self._waiting))
                since, futures = self._waiting.pop(page)
                if not all(future.done() for future in futures):
                    await self._answer(page, since, futures)
        finally:
            # At once, and not by a callback: who asks in the same turn of the loop needs another worker.
            self._workers = [worker for worker in self._workers if worker is not asyncio.current_task()]

    async def _answer(self, page: Page, since: float, futures: list[asyncio.Future[Segment]]) -> None:
        try:
            segment = await self._read(page, since)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits
            fail(futures, error)
        else:
            for future in futures:
                if not future.done():
                    future.set_result(segment)
