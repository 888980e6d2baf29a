"""The connection to NATS that a node's sessions share: what comes is handed out, what goes is written."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from ...errors import InvalidConfiguration, Outcome, Unavailable
from ...ports.entropy import Entropy
from ..common.steps import Steps
from ._wire_messages import BATCH_HEAD_BYTES, MESSAGE_HEAD_BYTES, Bye, encode
from .client import EndableClient
from .config import NatsConfig
from .connection import Connection

if TYPE_CHECKING:
    from .wire_session import Session

__all__ = ["WireLimits", "WireLink"]

_log = logging.getLogger("coterie.wire.nats")
_FLUSH_S = 1.0
_MIN_PAYLOAD = 16 * 1024
_MAX_PAYLOAD = 1024 * 1024
"""How much one message of NATS has at most, also where the servers would take more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WireLimits:
    """Every bound that the wire keeps. Validated on construction."""

    connect_timeout_s: float = 3.0
    """How long a listener may take to welcome a caller."""
    keepalive_s: float = 2.0
    """A session gives a sign of life so often."""
    silence_s: float = 8.0
    """A session is over when nothing was heard of the other end for so long."""
    window_bytes: int = 4 * 1024 * 1024
    """How much of a session may be under way and not received; more waits. At least four messages."""
    max_body_bytes: int = 16 * 1024 * 1024
    """The limit of the arguments of a call, of a result, and of an item."""
    max_unread_bytes: int = 256 * 1024 * 1024
    """How much may wait for a caller to receive it. A reply beyond that is dropped, and it is told so."""
    max_in_flight: int = 4096
    """How many calls one session may have under way; more are refused."""
    max_sessions: int = 4096
    """How many sessions a listener has at most; more are refused."""
    credit_items: int = 64
    """How many items of a stream may be under way before the reader must have taken some."""

    def __post_init__(self) -> None:
        for name in ("max_in_flight", "max_sessions", "credit_items"):
            if getattr(self, name) < 1:
                raise InvalidConfiguration(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.keepalive_s < self.silence_s:
            raise InvalidConfiguration("keepalive_s must be above 0 and below silence_s")
        if not 1024 <= self.max_body_bytes <= 1 << 30:
            raise InvalidConfiguration(
                f"max_body_bytes must be between 1024 and 2**30, not {self.max_body_bytes}"
            )
        if self.connect_timeout_s <= 0:
            raise InvalidConfiguration("connect_timeout_s must be above 0")
        if not 65_536 <= self.window_bytes <= self.max_unread_bytes:
            raise InvalidConfiguration("window_bytes must be at least 65536 and at most max_unread_bytes")


class WireLink(Connection):
    """One connection for all sessions of a node. When it is lost, so are they."""

    def __init__(self, config: NatsConfig, entropy: Entropy, limits: WireLimits) -> None:
        super().__init__(config)
        self.limits = limits
        self.space: str = f"{config.prefix}.wire"
        """All subjects of the wire begin with it."""
        self.base: str = f"{self.space}.to.{entropy.secret(16).hex()}"
        """The subjects of this node's sessions begin with it."""
        self.name: str = f"nats:{self.base[-8:]}"
        """Who this node is to its peers, for logs, as long as it does not listen."""
        self.sessions: dict[str, Session] = {}
        self.served: dict[str, Callable[[Msg], Awaitable[None]]] = {}
        """Who listens here, by subject."""
        self.steps: Steps
        """Starts the handlers. There once the link is open."""
        self._subscriptions: dict[str, Subscription] = {}
        self._tokens = 0
        self._out: deque[tuple[str, bytes, str]] = deque()
        self._news = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await super().open()
        if self.client.max_payload < _MIN_PAYLOAD:
            await super().close()
            raise InvalidConfiguration(
                f"{self.place} takes messages of up to {self.client.max_payload} bytes only",
                hint=f"set max_payload of the servers to {_MIN_PAYLOAD} or more",
            )
        self.steps = Steps(asyncio.get_running_loop())
        self._writer = asyncio.create_task(self._write())

    @property
    def frame_bytes(self) -> int:
        """How much of what a session says goes into one message of NATS."""
        return min(self.client.max_payload, _MAX_PAYLOAD) - BATCH_HEAD_BYTES

    @property
    def max_message_bytes(self) -> int:
        """The limit of what is sent in parts: a body, and room for what goes before it."""
        return self.limits.max_body_bytes + MESSAGE_HEAD_BYTES

    @property
    def window_bytes(self) -> int:
        """How much of a session may be under way: some messages of the largest size at least."""
        return max(self.limits.window_bytes, 4 * self.frame_bytes)

    # Sessions

    def add(self, session: Session) -> str:
        """Note a session, and return its token, the last part of its subject."""
        self._tokens += 1
        self.sessions[str(self._tokens)] = session
        return str(self._tokens)

    def remove(self, session: Session) -> None:
        self.sessions.pop(session.token, None)

    async def subscribe(self, client: EndableClient) -> None:
        await client.subscribe(f"{self.base}.>", cb=self._arrived)
        for subject, take in self.served.items():
            self._subscriptions[subject] = await client.subscribe(subject, cb=take)

    async def disconnected(self) -> None:
        self._out.clear()
        for session in tuple(self.sessions.values()):
            session.finish(Unavailable(f"the connection to {self.place} was lost", outcome=Outcome.UNKNOWN))

    async def _arrived(self, message: Msg) -> None:
        token, _, number = message.subject.removeprefix(f"{self.base}.").partition(".")
        session = self.sessions.get(token)
        if number:  # It comes from a server, which knows nobody who takes the message of this number.
            if session is not None and number.isdigit():
                session.nobody(int(number))
        elif session is not None:
            session.receive(message.data, message.reply.rpartition(".")[0])
        else:
            self.refuse(message.reply, Bye("unavailable", "there is no such session"))

    def refuse(self, reply: str, bye: Bye) -> None:
        """Tell the other end of no session that there is none. `reply` is what its message was sent with."""
        to = reply.rpartition(".")[0]
        if to.startswith(f"{self.space}.to."):
            self.post(to, encode((0, 0, [bye])), "")

    # Writing

    def post(self, subject: str, data: bytes, reply: str) -> None:
        """Send a message, in order with all others of this node. Lost while there is no connection."""
        if self.client.is_connected:
            self._out.append((subject, data, reply))
            self._written.clear()
            self._news.set()

    async def _write(self) -> None:
        while True:
            while self._out:
                subject, data, reply = self._out.popleft()
                try:
                    await self.client.publish(subject, data, reply)
                except (NatsError, OSError, TimeoutError) as error:
                    # Whoever waits for it misses it: the other end sees a gap, or nothing.
                    _log.warning("%s: %r", subject, error)
            self._news.clear()
            self._written.set()
            await self._news.wait()

    async def flush(self) -> None:
        """Return when the server has what was sent, or soon.

        The client's own `flush` overtakes what it has not written yet. An echo does not.
        """
        echo = asyncio.Event()
        with self.taking(lambda _: echo.set()) as inbox, suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self._written.wait()
                if self.client.is_connected:
                    await self.client.publish(inbox, b"")
                    await echo.wait()

    # Listening

    async def probe(self, subject: str) -> bool:
        """Whether somebody listens at `subject`. Raises `Unavailable` when the servers do not tell."""
        try:
            answer = await self._request(subject, b"", None, self.limits.connect_timeout_s)
        except (NatsError, OSError, TimeoutError) as error:
            what = f"{self.place} does not tell whether {subject!r} is free: {self.trouble or error!r}"
            raise Unavailable(what, outcome=Outcome.NOT_APPLIED) from error
        return not (answer.headers and answer.headers.get("Status") == "503")

    async def serve(self, subject: str, take: Callable[[Msg], Awaitable[None]]) -> None:
        """Hand what comes for `subject` to `take`, also after the connection was made anew."""
        self.served[subject] = take
        with suppress(NatsError, OSError):  # If it is lost just now it is made anew with the next one.
            self._subscriptions[subject] = await self.client.subscribe(subject, cb=take)
        await self.flush()

    async def leave(self, subject: str) -> None:
        """Take nothing more for `subject`. What the servers handed out before is still taken."""
        self.served.pop(subject, None)
        subscription = self._subscriptions.pop(subject, None)
        with suppress(NatsError, OSError, ValueError):
            if subscription is not None:
                # The client's own way forgets what has come meanwhile, and its sender would wait in vain.
                await self.client._send_unsubscribe(subscription._id)  # noqa: SLF001
                await self.flush()
                await subscription.unsubscribe()

    async def close(self) -> None:
        if self._writer is not None:
            await self.flush()
            self._writer.cancel()
            await asyncio.wait([self._writer])
            self._writer = None
            await self.steps.close()
        await super().close()
