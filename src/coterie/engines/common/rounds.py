"""A question to a server that many ask at a time, in rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from .shared import fail, heard

__all__ = ["Rounds"]

T = TypeVar("T")


class Rounds(Generic[T]):
    """Asks once for all who wait, again and again while anyone does.

    Who joins gets the answer of a round that begins afterwards: what was true before is in it.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._waiting: list[asyncio.Future[T]] = []
        self._asking: list[asyncio.Future[T]] = []
        self._task: asyncio.Task[None] | None = None

    def join(self) -> asyncio.Future[T]:
        """Return the future of the next round's answer or error."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(heard)
        self._waiting.append(future)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    async def close(self, error: Exception) -> None:
        """End the rounds; all who wait get `error`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        fail((*self._asking, *self._waiting), error)

    async def _run(self) -> None:
        try:
            while self._waiting:
                self._asking, self._waiting = self._waiting, []
                try:
                    answer = await self._ask()
                except Exception as error:  # noqa: BLE001 - whoever waits is told of all
                    fail(self._asking, error)
                else:
                    for future in self._asking:
                        if not future.done():
                            future.set_result(answer)
        finally:
            self._task = None
