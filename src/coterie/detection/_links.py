"""Connections for messages that may get lost: opened when needed, and only so many kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from ..errors import CoterieError
from ..ports.wire import Channel, Failure, Wire

__all__ = ["Hello", "Links"]

Hello = Callable[[Channel, float], Awaitable[object]]
"""Calls something harmless on the other end, within so many seconds, so that there is a connection."""

_WAITING = 8
"""How many messages wait for a connection; older ones get lost."""


class _Link:
    __slots__ = ("channel", "opening", "up", "waiting")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.up = False
        self.opening: asyncio.Task[None] | None = None
        self.waiting: deque[bytes] = deque(maxlen=_WAITING)


class Links:
    """A channel of its own to each address that was used last, at most `most` of them.

    Heartbeats do not share the connections of calls: behind a large body they would be late. A datagram
    on a channel without a connection is lost, so a new link says hello first.
    """

    def __init__(self, wire: Wire, hello: Hello, *, most: int, timeout_s: float) -> None:
        self._wire = wire
        self._hello = hello
        self._most = most
        self._timeout_s = timeout_s
        self._links: OrderedDict[str, _Link] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._links)

    def send(self, address: str, body: bytes) -> None:
        """Send `body`, if that can be done at all. Never waits or raises."""
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = _Link(self._wire.connect(address))
            if len(self._links) > self._most:
                self._drop(next(iter(self._links)))
        else:
            self._links.move_to_end(address)
        if link.up:
            link.channel.datagram(body)
            return
        link.waiting.append(body)
        if link.opening is None:
            link.opening = asyncio.create_task(self._open(link), name="coterie-detection-link")

    async def _open(self, link: _Link) -> None:
        try:
            await self._hello(link.channel, self._timeout_s)
            link.up = True
            for body in link.waiting:
                link.channel.datagram(body)
        except (CoterieError, Failure):
            pass  # Nobody there, or nobody who answers: the messages are lost.
        finally:
            link.waiting.clear()
            link.opening = None

    def retain(self, addresses: set[str]) -> None:
        """Let go of the links to all others."""
        for address in [address for address in self._links if address not in addresses]:
            self._drop(address)

    def _drop(self, address: str) -> None:
        task = asyncio.create_task(_close(self._links.pop(address)), name="coterie-detection-unlink")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all links. Idempotent."""
        for address in list(self._links):
            self._drop(address)
        await asyncio.gather(*self._closing)


async def _close(link: _Link) -> None:
    if link.opening is not None:
        link.opening.cancel()
        await asyncio.gather(link.opening, return_exceptions=True)
    await link.channel.close()
