"""Reads a stream from a sequence on: in order, each message once, and for as long as it is wanted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ...errors import Unavailable
from .link import ApiError, Link

__all__ = ["Consumer"]

_log = logging.getLogger("coterie.nats")
_HEARTBEAT_S = 0.5
_SILENCE_S = 1.5
"""Without a message or a heartbeat for so long the consumer is gone, or its server is."""
_CREATION_S = 1.0
_RETRY_S = 0.1

Receive = Callable[[int, str, bytes], None]
"""Takes a message: its sequence, its subject, its bytes."""


class Consumer:
    """Makes a consumer of the server's, and makes it anew from where it stands whenever that is lost."""

    def __init__(self, link: Link, stream: str, receive: Receive) -> None:
        self.position: int = 0
        """The sequence of the last message that was received; set it to begin, or to go on, elsewhere."""
        self._link = link
        self._stream = stream
        self._receive = receive

    async def run(self) -> None:
        """Receive for ever. Raises what `receive` raises, to be run again from its `position`."""
        while True:
            reading = _Reading(self)
            try:
                await self._read(reading)
            except (ApiError, Unavailable, NatsError, OSError) as error:
                _log.debug("consuming %s: %s", self._stream, error)
            self._link.check()
            await asyncio.sleep(_RETRY_S)

    async def _read(self, reading: _Reading) -> None:
        """Receive until the consumer is lost."""
        inbox = self._link.client.new_inbox()
        subscription = await self._link.client.subscribe(inbox, cb=reading.take)
        try:
            name = inbox.rpartition(".")[2]
            config = {
                "name": name,
                "deliver_subject": inbox,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self.position + 1,
                "ack_policy": "none",
                "max_deliver": 1,
                "mem_storage": True,
                "num_replicas": 1,
                "flow_control": True,
                "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
                "inactive_threshold": 10 * 10**9,
            }
            request = {"stream_name": self._stream, "config": config}
            # It may be placed on a member that is gone, and would be so again under the same name.
            await self._link.api(f"CONSUMER.CREATE.{self._stream}.{name}", request, timeout_s=_CREATION_S)
            await reading.until_lost()
        finally:
            reading.lost = True
            with suppress(NatsError, OSError):
                await subscription.unsubscribe()

    def receive(self, sequence: int, subject: str, data: bytes) -> None:
        """Hand a message on, unless its sender did so when it was told of its place."""
        if sequence > self.position:
            self._receive(sequence, subject, data)
            self.position = sequence


class _Reading:
    """What one consumer of the server's sends."""

    def __init__(self, consumer: Consumer) -> None:
        self.lost: bool = False
        """Whether what comes now would come after a gap."""
        self._consumer = consumer
        self._delivered = 0
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._ended = asyncio.Event()

    async def until_lost(self) -> None:
        """Return when the consumer is lost; raise what `receive` raised."""
        self._heard = self._loop.time()
        while not self._ended.is_set() and self._loop.time() - self._heard < _SILENCE_S:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_S):
                    await self._ended.wait()
        self.lost = True
        if self._error is not None:
            raise self._error

    async def take(self, message: Msg) -> None:
        """Take a message of the stream, a heartbeat, or a question whether all was taken so far."""
        if self.lost:
            return
        self._heard = self._loop.time()
        if not message.reply.startswith("$JS.ACK."):
            if message.reply:
                await message.respond(b"")
            elif _last_sent(message) not in {None, self._delivered}:
                self._lose()  # messages were lost on the way, and nothing came after them
            return
        tokens = message.reply.split(".")
        at = 5 if len(tokens) == 9 else 7  # with a domain and an account before the stream
        if int(tokens[at + 1]) != self._delivered + 1:
            self._lose()
            return
        self._delivered += 1
        try:
            self._consumer.receive(int(tokens[at]), message.subject, message.data)
        except Exception as error:  # noqa: BLE001 - whoever runs the consumer is told of all
            self._error = error
            self._lose()

    def _lose(self) -> None:
        self.lost = True
        self._ended.set()


def _last_sent(message: Msg) -> int | None:
    """Return how many messages the consumer has sent, if this is a heartbeat that tells."""
    last = (message.headers or {}).get("Nats-Last-Consumer")
    return None if last is None else int(last)
