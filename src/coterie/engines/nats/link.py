"""The connection to NATS, and the part of JetStream's API that the engine uses.

The API is spoken directly, since the client library hides what matters here: its reads may go to a replica,
and its consumers begin again on their own.
"""

from __future__ import annotations

import asyncio
import enum
import json
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoServersError

from ...errors import (
    CoterieError,
    InvalidConfiguration,
    Outcome,
    PermissionDenied,
    TooLarge,
    Unavailable,
)
from .config import NatsConfig

__all__ = ["NOT_FOUND", "WRONG_LAST", "ApiError", "Link", "Nobody", "Stored"]

_log = logging.getLogger("coterie.nats")
_parse = msgspec.json.Decoder().decode
_ATTEMPT_S = 1.0
_PAUSE_S = 0.05
_MAX_PAUSE_S = 2.0
_PATIENCE_S = 5.0
"""How long a member may be of no use before another one is asked: about as long as an election takes."""
_NEXT_PATIENCE_S = 2.0
"""The same for those that are tried next."""
NOT_FOUND = {10037, 10059, 10014}
"""No message, no stream, no consumer."""
_NOT_LED = {10008, 10009, 10118}
"""Another server leads now, or soon."""
_NOT_ENABLED = {10039, 10076}
"""JetStream is off, for this account or at all."""
_NO_PEERS = {10005, 10074}
"""There are fewer servers than replicas asked for."""
WRONG_LAST = {10070, 10071, 10164}
"""The stream, or the subject, has moved on."""
_TOO_LARGE = {10054}
_CANNOT_STORE = {10002, 10023, 10047, 10077}
"""No space, or a limit. What the server did until it found out is not known."""


class Nobody(enum.Enum):
    """Why a request has no answer."""

    LISTENS = 1
    """There is no such stream, or it has no leader: nothing has happened."""

    ANSWERED = 2
    """It was lost, or the answer was, or either takes longer."""


class ApiError(Exception):
    """JetStream said no."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code
        self.text = text

    @property
    def not_found(self) -> bool:
        """Whether there is no such stream or message."""
        return self.code in NOT_FOUND


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the leader of its stream has it. `time` is as the server writes it."""

    sequence: int
    subject: str
    data: bytes
    time: str


class Link:
    """One connection, kept alive by the client library, and made anew when that has given up."""

    def __init__(self, config: NatsConfig) -> None:
        self.config: NatsConfig = config
        self.client: Client = Client()
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
        client = Client()

        async def failed(error: Exception) -> None:
            await self._trouble(error)
            # The client leaves open what it could not use.
            transport: Any = client._transport  # noqa: SLF001
            if transport is not None and not client.is_connected:
                transport.close()

        options: dict[str, Any] = {
            "name": "coterie",
            "connect_timeout": config.connect_timeout_s,
            "reconnect_time_wait": 0.05,
            # It tries for ever once it has been connected; until then one round is enough.
            "max_reconnect_attempts": 1,
            "dont_randomize": True,
            "ping_interval": 1,
            "max_outstanding_pings": 2,
            "error_cb": failed,
            "reconnected_cb": self._reconnected,
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
        except BaseException:
            self._asks_login = bool(client._server_info.get("auth_required"))  # noqa: SLF001 - as above
            # One that never found a server cannot be closed, and asserts that it had.
            with suppress(NatsError, OSError, TimeoutError, AssertionError):
                await client.close()
            raise
        client.options["max_reconnect_attempts"] = -1
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._replied)
        self.client, self.trouble = client, ""

    async def close(self) -> None:
        """End the connection. Idempotent."""
        self.closed = True
        if self._reviving is not None:
            self._reviving.cancel()
        if self._inbox:
            with suppress(NatsError, OSError, TimeoutError):
                await self.client.close()

    async def _trouble(self, error: Exception) -> None:
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
        pause_s = _PAUSE_S
        while self.client.is_closed:
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

    async def api(
        self, subject: str, request: dict[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Ask JetStream's leader, or that of a stream, until it answers.

        What is asked must mean the same when it is asked twice.

        Raises:
            ApiError: it says no.
            Unavailable: nobody leads for `timeout_s` (`operation_timeout_s`), and the outcome is unknown.
        """
        body = json.dumps(request).encode() if request else b""
        deadline = asyncio.get_running_loop().time() + (timeout_s or self.config.operation_timeout_s)
        sent = False
        while True:
            answer = await self._attempt(f"$JS.API.{subject}", body, None, deadline, sent=sent)
            if isinstance(answer, bytes):
                reply: dict[str, Any] = _parse(answer)
                error = reply.get("error") or {}
                code = int(error.get("err_code", 0))
                later = int(error.get("code", 0)) == 503 and code not in _NOT_ENABLED
                if not later and code not in _NOT_LED:
                    self._complaint = None
                    if not error:
                        return reply
                    raise ApiError(code, str(error.get("description", "")))
                _log.debug("%s: %s", subject, error)
                await self._complain()
            sent = sent or answer is not Nobody.LISTENS
            await asyncio.sleep(_PAUSE_S)

    async def publish(
        self,
        subject: str,
        body: bytes,
        id_: str,
        headers: dict[str, str] | None = None,
        *,
        deadline: float | None = None,
        nobody: Callable[[], Awaitable[object]] | None = None,
    ) -> int:
        """Have a message stored once, however often it is sent, and return its sequence.

        `deadline` is by the loop's clock; `nobody` is called when no stream listens, and may raise.

        Raises:
            ApiError: one of `WRONG_LAST`.
            CoterieError: with an outcome that takes earlier attempts into account.
        """
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self.config.operation_timeout_s
        all_headers = {"Nats-Msg-Id": id_, **(headers or {})}
        doubtful = False
        while True:
            answer = await self._attempt(subject, body, all_headers, deadline, sent=doubtful)
            if isinstance(answer, bytes):
                reply = _parse(answer)
                error = reply.get("error") or {}
                if not error:
                    self._complaint = None
                    return int(reply["seq"])
                self._refuse(int(error.get("err_code", 0)), str(error.get("description", "")), doubtful)
            if answer is not Nobody.LISTENS:
                doubtful = True
            elif nobody is not None:
                await nobody()
            await asyncio.sleep(_PAUSE_S)

    def _refuse(self, code: int, text: str, doubtful: bool) -> None:
        """Raise if it is no use to send a message again that was refused like this."""
        if code in WRONG_LAST:
            raise ApiError(code, text)
        outcome = Outcome.UNKNOWN if doubtful or code in _CANNOT_STORE else Outcome.NOT_APPLIED
        if code in _TOO_LARGE:
            raise TooLarge(f"{self.place}: {text}", outcome=outcome)
        if code in _CANNOT_STORE | _NOT_ENABLED:
            raise Unavailable(f"{self.place} cannot store this: {text} ({code})", outcome=outcome)

    async def _attempt(
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
            await asyncio.sleep(min(_PAUSE_S, left))
        try:
            message = await self._request(subject, body, headers, min(_ATTEMPT_S, left))
        except (NatsError, OSError, TimeoutError) as error:
            _log.debug("%s: %r", subject, error)
            self._raise_if_denied(subject, sent=sent)
            await self._complain()
            return Nobody.ANSWERED
        if message.headers and message.headers.get("Status") == "503":
            await self._complain()
            return Nobody.LISTENS
        return message.data

    async def _request(
        self, subject: str, body: bytes, headers: dict[str, str] | None, timeout_s: float
    ) -> Msg:
        # The client library has this too, but in Python 3.11 may swallow a cancellation.
        reply: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def take(message: Msg) -> None:
            if not reply.done():
                reply.set_result(message)

        with self._taking(take) as inbox:
            await self.client.publish(subject, body, inbox, headers)
            async with asyncio.timeout(timeout_s):
                return await reply

    @contextmanager
    def _taking(self, take: Callable[[Msg], None]) -> Iterator[str]:
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

    async def some(self, stream: str, sequence: int, count: int, max_bytes: int) -> list[Stored] | None:
        """Return messages from `sequence` on as any member has them, or None if none answers at once.

        The stream must allow direct access.
        """
        found: list[Stored] = []
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def take(message: Msg) -> None:
            headers = message.headers or {}
            if "Nats-Sequence" in headers:
                found.append(_stored(headers, message.data))
            elif not ended.done():
                # 204 is the end of what there is, 404 that there is nothing, 503 that nobody listens.
                ended.set_result(headers.get("Status") in {"204", "404"})

        request = json.dumps({"seq": sequence, "batch": count, "max_bytes": max_bytes}).encode()
        with self._taking(take) as inbox, suppress(NatsError, OSError, TimeoutError):
            if self.client.is_connected:
                await self.client.publish(f"$JS.API.DIRECT.GET.{stream}", request, inbox)
                async with asyncio.timeout(_ATTEMPT_S):
                    return found if await ended else None
        return None

    def _raise_if_denied(self, subject: str, *, sent: bool) -> None:
        said = self.trouble.lower()  # the client writes it in lower case
        if "permissions violation" in said and f'"{subject.lower()}"' in said:
            raise PermissionDenied(
                f"{self.place} does not let us: {self.trouble}",
                hint="let the user publish to $JS.API.> and to all that begins with the prefix",
                outcome=Outcome.UNKNOWN if sent else Outcome.NOT_APPLIED,
            )

    async def _complain(self) -> None:
        """Go to another member after this one was of no use for some time.

        It may be cut off from the others, while we are not.
        """
        now = asyncio.get_running_loop().time()
        if self._complaint is None:
            self._complaint = now
        elif now - self._complaint > _PATIENCE_S and len(self.config.servers) > 1:
            self._complaint = now - _PATIENCE_S + _NEXT_PATIENCE_S
            await self.client.force_reconnect()

    async def message(self, stream: str, request: dict[str, Any]) -> Stored | None:
        """Return a message of the stream from its leader, or None when there is none."""
        try:
            reply = await self.api(f"STREAM.MSG.GET.{stream}", request)
        except ApiError as error:
            if error.code == 10037:
                return None
            raise
        found = reply["message"]
        return Stored(
            int(found["seq"]), str(found["subject"]), b64decode(found.get("data", "")), str(found["time"])
        )

    async def state(self, stream: str) -> dict[str, Any]:
        """Return the stream's state by its leader: `first_seq`, `last_seq`, `messages` and so on."""
        return dict((await self.api(f"STREAM.INFO.{stream}"))["state"])

    async def check_jetstream(self) -> None:
        """Raise `InvalidConfiguration` when this user has no JetStream: then nobody listens at all."""
        deadline = asyncio.get_running_loop().time() + self.config.connect_timeout_s
        while await self._attempt("$JS.API.INFO", b"", None, deadline + 1, sent=False) is Nobody.LISTENS:
            if asyncio.get_running_loop().time() > deadline:
                raise InvalidConfiguration(
                    f"{self.place} has no JetStream for this user",
                    hint="write `jetstream {}` into its configuration, and for its account",
                )
            await asyncio.sleep(_PAUSE_S)

    async def make_stream(
        self, name: str, subjects: list[str], replicas: int, *, direct: bool = False
    ) -> None:
        """Make sure that the stream exists, and that its settings keep what they must.

        Raises `InvalidConfiguration` when they do not.
        """
        config = {
            "name": name,
            "subjects": subjects,
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "num_replicas": replicas,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "max_msgs_per_subject": -1,
            "duplicate_window": 120 * 10**9,
            "allow_direct": direct,
        }
        try:
            known = (await self.api(f"STREAM.CREATE.{name}", config))["config"]
        except ApiError as error:
            if error.code != 10058:  # it exists with other settings
                raise self.refusal(error) from error
            known = (await self.api(f"STREAM.INFO.{name}"))["config"]
        for setting, wanted in config.items():
            if known.get(setting, wanted) != wanted:
                raise InvalidConfiguration(
                    f"the stream {name!r} has {setting} {known[setting]!r} in place of {wanted!r}",
                    hint="mend it by `nats stream edit`, or choose another ?prefix= or ?replicas=",
                )

    def refusal(self, error: ApiError) -> CoterieError:
        """Return what JetStream's refusal is to a caller."""
        if error.code in _NOT_ENABLED | _NO_PEERS:
            return InvalidConfiguration(
                f"{self.place}: {error}",
                hint="JetStream must be on, with as many servers as ?replicas= asks for",
            )
        return Unavailable(f"{self.place} refuses this: {error}", outcome=Outcome.NOT_APPLIED)

    def unavailable(self, *, sent: bool) -> Unavailable:
        """Return the error of what had no answer in time."""
        return Unavailable(
            f"{self.place} does not answer", outcome=Outcome.UNKNOWN if sent else Outcome.NOT_APPLIED
        )


def _stored(headers: Mapping[str, str], data: bytes) -> Stored:
    return Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], data, headers["Nats-Time-Stamp"])
