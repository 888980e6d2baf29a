"""The connection to NATS: made, kept alive, made anew, and requests over it."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import FlushTimeoutError, NoServersError

from ...errors import CoterieError, Outcome, PermissionDenied, Unavailable
from .client import EndableClient
from .config import NatsConfig

__all__ = ["ATTEMPT_S", "PAUSE_S", "Connection", "Nobody"]

_log = logging.getLogger("coterie.nats")
ATTEMPT_S = 1.0
"""How long one request may take before it is sent again."""
PAUSE_S = 0.05
"""How long it rests before that."""
_MAX_PAUSE_S = 2.0
_PATIENCE_S = 5.0
"""How long a member may be of no use before another one is asked: about as long as an election takes."""
_NEXT_PATIENCE_S = 2.0
"""The same for those that are tried next."""


class Nobody(enum.Enum):
    """Why a request has no answer."""

    LISTENS = 1
    """There is no such stream, or it has no leader: nothing has happened."""

    ANSWERED = 2
    """It was lost, or the answer was, or either takes longer."""


class Connection:
    """One connection, kept alive by the client library, and made anew when that has given up."""

    def __init__(self, config: NatsConfig) -> None:
        self.config: NatsConfig = config
        self.client: EndableClient = EndableClient()
        self.closed: bool = False
        self.trouble: str = ""
        """What the client complained of last, since it was connected."""
        self._cause: Exception | None = None
        self._asks_login = False
        self._complaint: float | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._inbox = ""
        self._requests = 0
        self._replies: dict[str, Callable[[Msg], None]] = {}

    @property
    def place(self) -> str:
        """The servers, for messages: no credentials."""
        return ",".join(self.config.servers)

    @property
    def clustered(self) -> bool:
        """Whether the server is a member of a cluster."""
        return bool(self.client._server_info.get("cluster"))  # noqa: SLF001 - there is no other way to see it

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the server, as numbers."""
        version = self.client.connected_server_version
        return version.major, version.minor, version.patch

    async def open(self) -> None:
        """Connect.

        Raises:
            PermissionDenied: the servers do not know this user.
            Unavailable: none of them can be reached.
        """
        try:
            await self._connect()
        except (NatsError, NoServersError, OSError, TimeoutError) as error:
            await self.close()
            text = f"{self.trouble} {error}".strip() or type(error).__name__
            # One that does not know our login may hang up before we have read that it says so.
            hung_up = self._asks_login and isinstance(self._cause, BrokenPipeError | ConnectionResetError)
            if hung_up or "authorization" in text.lower() or "authentication" in text.lower():
                raise PermissionDenied(
                    f"{self.place} does not let us in: {text}", hint="is the URL's login right?"
                ) from error
            raise Unavailable(
                f"{self.place} cannot be reached: {text}", outcome=Outcome.NOT_APPLIED
            ) from error
        except BaseException:
            await self.close()
            raise

    async def _connect(self) -> None:
        config = self.config
        client = EndableClient()

        options: dict[str, Any] = {
            "name": "coterie",
            "connect_timeout": config.connect_timeout_s,
            "reconnect_time_wait": 0.05,
            # It tries for ever once it has been connected; until then one round is enough.
            "max_reconnect_attempts": 1,
            "dont_randomize": True,
            "flush_timeout": ATTEMPT_S,
            "ping_interval": 1,
            "max_outstanding_pings": 2,
            "error_cb": self._trouble,
            "reconnected_cb": self._reconnected,
            "disconnected_cb": self.disconnected,
            "closed_cb": self._given_up,
            "tls": config.trust(),
            "user": config.user or None,
            "password": config.password or None,
            "token": config.token or None,
            "user_credentials": config.creds_file or None,
        }
        scheme = "tls" if config.tls else "nats"
        servers = [f"{scheme}://{server}" for server in config.servers]
        try:
            async with asyncio.timeout((len(servers) + 1) * config.connect_timeout_s):
                await client.connect(servers, **options)
            client.options["max_reconnect_attempts"] = -1
            self._inbox = client.new_inbox()
            await client.subscribe(f"{self._inbox}.*", cb=self._replied)
            await self.subscribe(client)
            self.check()  # It may have been closed meanwhile.
        except BaseException:
            self._asks_login = bool(client._server_info.get("auth_required"))  # noqa: SLF001 - as above
            await client.end()
            raise
        self.client, self.trouble = client, ""

    async def subscribe(self, client: EndableClient) -> None:
        """Subscribe to what is to come besides answers. For a client that was just connected."""

    async def disconnected(self) -> None:
        """The connection is lost. The client tries to make it anew, and subscribes to the same again."""

    async def close(self) -> None:
        """End the connection. Idempotent."""
        self.closed = True
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.wait([self._reviving])
        await self.client.end()

    async def _trouble(self, error: Exception) -> None:
        if isinstance(error, FlushTimeoutError):
            return  # Whoever waits for an answer misses it, and says so.
        text = str(error) or type(error).__name__
        # Once an outage is enough: the client tries many times a second.
        _log.log(logging.DEBUG if self.trouble else logging.WARNING, "connection to %s: %s", self.place, text)
        self.trouble, self._cause = text, error

    async def _reconnected(self) -> None:
        self.trouble = ""
        _log.info("connected to %s again", self.place)

    async def _given_up(self) -> None:
        # The client ends for good when a server refuses the login, as may happen in passing.
        if not self.closed and self.client.is_closed and self._reviving is None:
            self._reviving = asyncio.create_task(self._revive())

    async def _revive(self) -> None:
        pause_s = PAUSE_S
        while self.client.is_closed and not self.closed:
            try:
                await self._connect()
            except (NatsError, NoServersError, OSError, TimeoutError, CoterieError) as error:
                await self._trouble(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
        self._reviving = None

    def check(self) -> None:
        """Raise `Unavailable` when the connection was closed for good."""
        if self.closed:
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)

    async def attempt(
        self, subject: str, body: bytes, headers: dict[str, str] | None, deadline: float, *, sent: bool
    ) -> bytes | Nobody:
        """Request once, and return the answer, if there is one.

        Raises `Unavailable` after the deadline; `sent` says whether an earlier attempt may have arrived.
        """
        loop = asyncio.get_running_loop()
        while True:
            if self.closed:
                outcome = Outcome.UNKNOWN if sent else Outcome.NOT_APPLIED
                raise Unavailable("the engine was closed meanwhile", outcome=outcome)
            left = deadline - loop.time()
            if left <= 0:
                raise self.unavailable(sent=sent)
            if self.client.is_connected:
                break
            await asyncio.sleep(min(PAUSE_S, left))
        try:
            message = await self._request(subject, body, headers, min(ATTEMPT_S, left))
        except (NatsError, OSError, TimeoutError) as error:
            _log.debug("%s: %r", subject, error)
            self._raise_if_denied(subject, sent=sent)
            await self.complain()
            return Nobody.ANSWERED
        if message.headers and message.headers.get("Status") == "503":
            await self.complain()
            return Nobody.LISTENS
        return message.data

    async def _request(
        self, subject: str, body: bytes, headers: dict[str, str] | None, timeout_s: float
    ) -> Msg:
        # The client library has this too, but in Python 3.11 may swallow a cancellation.
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Msg | None] = loop.create_future()

        def take(message: Msg | None) -> None:
            if not reply.done():
                reply.set_result(message)

        with self.taking(take) as inbox:
            timer = loop.call_later(timeout_s, take, None)
            try:
                await self.client.publish(subject, body, inbox, headers)
                message = await reply
            finally:
                timer.cancel()
        if message is None:
            raise TimeoutError
        return message

    @contextmanager
    def taking(self, take: Callable[[Msg], None]) -> Iterator[str]:
        self._requests += 1
        token = str(self._requests)
        self._replies[token] = take
        try:
            yield f"{self._inbox}.{token}"
        finally:
            del self._replies[token]

    async def _replied(self, message: Msg) -> None:
        take = self._replies.get(message.subject.rpartition(".")[2])
        if take is not None:
            take(message)

    def _raise_if_denied(self, subject: str, *, sent: bool) -> None:
        said = self.trouble.lower()  # the client writes it in lower case
        if "permissions violation" in said and f'"{subject.lower()}"' in said:
            raise PermissionDenied(
                f"{self.place} does not let us: {self.trouble}",
                hint="let the user publish to $JS.API.> and to all that begins with the prefix",
                outcome=Outcome.UNKNOWN if sent else Outcome.NOT_APPLIED,
            )

    def be_content(self) -> None:
        """The member that we are at is of use."""
        self._complaint = None

    async def complain(self) -> None:
        """Go to another member after this one was of no use for some time.

        It may be cut off from the others, while we are not.
        """
        now = asyncio.get_running_loop().time()
        if self._complaint is None:
            self._complaint = now
        elif now - self._complaint > _PATIENCE_S and len(self.config.servers) > 1:
            self._complaint = now - _PATIENCE_S + _NEXT_PATIENCE_S
            await self.client.force_reconnect()

    def unavailable(self, *, sent: bool) -> Unavailable:
        """Return the error of what had no answer in time."""
        return Unavailable(
            f"{self.place} does not answer", outcome=Outcome.UNKNOWN if sent else Outcome.NOT_APPLIED
        )
