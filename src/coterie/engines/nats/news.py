"""News of appends, for those who wait: core NATS, so they may be lost, and who waits looks now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from .link import Link

__all__ = ["News", "Waiting"]

_POLL_S = 0.5


class News:
    """Tells other clients of records that are there, and is told by them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: set[Waiting] = set()
        self._untold: dict[str, int] = {}
        self._telling: asyncio.Task[None] | None = None

    def tell_soon(self, stream: str, offset: int) -> None:
        """Tell that the record at `offset` can be read; of several in a turn of the loop only the last."""
        self._untold[stream] = max(offset, self._untold.get(stream, offset))
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_all())

    async def _tell_all(self) -> None:
        try:
            while self._untold:
                stream, offset = self._untold.popitem()
                await self.tell(stream, offset)
        finally:
            self._telling = None

    async def tell(self, stream: str, offset: int | None) -> None:
        """Tell that the record at `offset` can be read, or with None that the stream is gone."""
        with suppress(NatsError, OSError):
            if self._link.client.is_connected:
                await self._link.client.publish(f"{stream}-news", b"" if offset is None else b"%d" % offset)

    @asynccontextmanager
    async def about(self, stream: str) -> AsyncIterator[Waiting]:
        """Listen for news of a stream."""
        waiting = Waiting()
        subscription = None
        # Without a connection there is no news now, and no harm: see `_POLL_S`.
        with suppress(NatsError, OSError):
            subscription = await self._link.client.subscribe(f"{stream}-news", cb=waiting.hear)
        self._waiting.add(waiting)
        try:
            yield waiting
        finally:
            self._waiting.discard(waiting)
            if subscription is not None:
                with suppress(NatsError, OSError):
                    await subscription.unsubscribe()

    async def close(self) -> None:
        """Wake all who wait."""
        for waiting in self._waiting:
            waiting.wake()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait([self._telling])


class Waiting:
    """One who waits for a record."""

    def __init__(self) -> None:
        self._newest = -1
        self._woken = asyncio.Event()

    async def hear(self, message: Msg) -> None:
        """Take what another client tells."""
        if message.data.isdigit():
            self._newest = max(self._newest, int(message.data))
        self.wake()

    def wake(self) -> None:
        """Have a look."""
        self._woken.set()

    def clear(self) -> None:
        """What was told so far will be looked at now."""
        self._woken.clear()

    async def beyond(self, offset: int) -> bool:
        """Return whether the record at `offset` or a later one is there; else it is time to look."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._woken.wait()
        return self._newest >= offset
