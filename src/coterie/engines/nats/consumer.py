"""Reads a stream from a sequence on: in order, each message once, and for as long as it is wanted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ...errors import CoterieError
from .link import ApiError, Link

__all__ = ["Consumer"]

_log = logging.getLogger("coterie.nats")
_HEARTBEAT_S = 0.5
_SILENCE_S = 2.0
"""Without a message or a heartbeat for so long the consumer is gone, or its server is."""
_RETRY_S = 0.1

Receive = Callable[[int, int, str, bytes], Awaitable[None]]
"""Takes a message: its sequence, its time in nanoseconds since 1970, its subject, its bytes."""


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
            inbox = self._link.client.new_inbox()
            try:
                await self._consume(inbox)
            except (ApiError, CoterieError, NatsError, OSError) as error:
                self._link.check()
                _log.debug("consuming %s: %s", self._stream, error)
                await asyncio.sleep(_RETRY_S)

    async def _consume(self, inbox: str) -> None:
        client = self._link.client
        messages: asyncio.Queue[Msg] = asyncio.Queue()

        async def put(message: Msg) -> None:
            messages.put_nowait(message)

        subscription = await client.subscribe(inbox, cb=put)
        name = inbox.rpartition(".")[2]
        try:
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
            await self._link.api(f"CONSUMER.CREATE.{self._stream}.{name}", request)
            await self._follow(messages)
        finally:
            with suppress(NatsError, OSError):
                await subscription.unsubscribe()

    async def _follow(self, messages: asyncio.Queue[Msg]) -> None:
        """Receive until the consumer is lost."""
        delivered = 0
        while True:
            try:
                async with asyncio.timeout(_SILENCE_S):
                    message = await messages.get()
            except TimeoutError:
                return
            if not message.reply.startswith("$JS.ACK."):
                if message.reply:  # flow control: say that all up to here was taken
                    await message.respond(b"")
                elif _last_sent(message) not in {None, delivered}:
                    return  # messages were lost on the way, and nothing came after them
                continue
            tokens = message.reply.split(".")
            at = 5 if len(tokens) == 9 else 7  # with a domain and an account before the stream
            sequence, number, time_ns = (int(token) for token in tokens[at : at + 3])
            if number != delivered + 1:
                return
            delivered = number
            await self._receive(sequence, time_ns, message.subject, message.data)
            self.position = sequence


def _last_sent(message: Msg) -> int | None:
    """Return how many messages the consumer has sent, if this is a heartbeat that tells."""
    last = (message.headers or {}).get("Nats-Last-Consumer")
    return None if last is None else int(last)
