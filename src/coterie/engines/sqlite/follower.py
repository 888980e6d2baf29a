"""A process that does not hold the writer role: what it sends to the one that does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...errors import InvalidArgument, Outcome, ProtocolError, TooLarge, Unavailable
from .hub import Hub
from .leader import changes_of
from .link import Answers, Do, Follow, Following, Join, Link, Message, News, Resync
from .operations import Operation, Result, failed

__all__ = ["Follower"]


class Follower(Link):
    """The connection to the writer."""

    def __init__(self, session: str, hub: Hub, answered: Callable[[int, Result], None]) -> None:
        super().__init__()
        self._session = session
        self._hub = hub
        self._answered = answered
        self._following: dict[int, asyncio.Future[None]] = {}
        self._last_follow = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(Join(self._session))

    def do(self, operation: Operation, number: int, heard: int) -> None:
        """Ask the writer for an operation. What cannot be sent is answered here, as refused."""
        try:
            self.send(Do(number, heard, operation))
        except TooLarge as error:
            self.loop.call_soon(self._answered, number, failed(error))
        except (OverflowError, TypeError, ValueError) as error:
            refused = failed(InvalidArgument(f"this cannot be stored: {error}"))
            self.loop.call_soon(self._answered, number, refused)

    async def follow(self, prefixes: tuple[str, ...]) -> None:
        """Return when the writer tells all that is committed under `prefixes`."""
        if not self.open:
            raise Unavailable("the writer has just gone", outcome=Outcome.NOT_APPLIED)
        self._last_follow += 1
        number = self._last_follow
        future = self._following[number] = self.loop.create_future()
        self.send(Follow(number, prefixes))
        try:
            await future
        finally:
            del self._following[number]

    def received(self, message: Message) -> None:
        if isinstance(message, Answers):
            for number, result in message.results:
                self._answered(number, result)
        elif isinstance(message, News):
            self._hub.publish(changes_of(message))
            self._hub.appended({(topic, partition): end for topic, partition, end in message.appended})
        elif isinstance(message, Following):
            if not message.number:
                self._hub.look_again()
            future = self._following.get(message.number)
            if future is not None and not future.done():
                future.set_result(None)
        elif isinstance(message, Resync):
            self._hub.resync()
        else:
            raise ProtocolError("a message from the wrong end")

    def ended(self) -> None:
        for future in self._following.values():
            if not future.done():
                future.set_exception(Unavailable("the writer has gone", outcome=Outcome.NOT_APPLIED))
