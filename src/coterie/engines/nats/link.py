"""The connection to NATS, and the part of JetStream's API that the engine uses.

The API is spoken directly, since the client library hides what matters here: its reads may go to a replica,
and its consumers begin again on their own.
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, NoServersError

from ...errors import (
    CoterieError,
    InvalidConfiguration,
    Outcome,
    PermissionDenied,
    TooLarge,
    Unavailable,
)
from .config import NatsConfig

__all__ = ["ApiError", "Link", "Stored"]

_log = logging.getLogger("coterie.nats")
_ATTEMPT_S = 2.0
_PAUSE_S = 0.05
NOT_FOUND = {10037, 10059, 10014}
"""No message, no stream, no consumer."""
_FOR_GOOD = {10039, 10076}
"""JetStream is not enabled, for this account or at all."""


class ApiError(Exception):
    """JetStream said no."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code

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
    """One connection, kept alive by the client library."""

    def __init__(self, config: NatsConfig) -> None:
        self.config: NatsConfig = config
        self.client: Client = Client()
        self.closed: bool = False
        self._said = ""

    @property
    def place(self) -> str:
        """The servers, for messages: no credentials."""
        return ",".join(self.config.servers)

    @property
    def clustered(self) -> bool:
        """Whether the server is a member of a cluster."""
        return bool(self.client._server_info.get("cluster"))  # noqa: SLF001 - there is no other way to see it

    async def open(self) -> None:
        """Connect.

        Raises:
            PermissionDenied: the servers do not know this user.
            Unavailable: none of them can be reached.
        """
        config = self.config
        options: dict[str, Any] = {
            "name": "coterie",
            "connect_timeout": config.connect_timeout_s,
            "reconnect_time_wait": 0.05,
            "max_reconnect_attempts": -1,
            "ping_interval": 1,
            "max_outstanding_pings": 2,
            "error_cb": self._trouble,
            "tls": config.trust(),
            "user": config.user or None,
            "password": config.password or None,
            "token": config.token or None,
            "user_credentials": config.creds_file or None,
        }
        scheme = "tls" if config.tls else "nats"
        servers = [f"{scheme}://{server}" for server in config.servers]
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                # It tries for ever once it has been connected; until then one round is enough.
                await self.client.connect(servers, **{**options, "max_reconnect_attempts": 1})
            self.client.options["max_reconnect_attempts"] = -1
        except (NatsError, NoServersError, OSError, TimeoutError) as error:
            await self.close()
            text = f"{error} {self._said}"
            if "uthorization" in text or "uthentication" in text:
                raise PermissionDenied(
                    f"{self.place} does not let us in: {error}", hint="is the URL's password right?"
                ) from error
            raise Unavailable(
                f"{self.place} cannot be reached: {self._said or str(error) or type(error).__name__}",
                outcome=Outcome.NOT_APPLIED,
            ) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the connection. Idempotent."""
        self.closed = True
        with suppress(NatsError, OSError, TimeoutError):
            await self.client.close()

    async def _trouble(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if text != self._said:
            _log.warning("connection to %s: %s", self.place, text)
        self._said = text

    def check(self) -> None:
        """Raise `Unavailable` when the connection was closed for good."""
        if self.closed:
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)

    async def api(self, subject: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream's leader, or that of a stream, until it answers.

        Raises:
            ApiError: it says no.
            Unavailable: nobody leads for `operation_timeout_s`, and the outcome is unknown.
        """
        body = json.dumps(request).encode() if request else b""
        answer = await self.ask(f"$JS.API.{subject}", body)
        reply: dict[str, Any] = json.loads(answer)
        error = reply.get("error")
        if error:
            raise ApiError(int(error.get("err_code", 0)), str(error.get("description", "")))
        return reply

    async def ask(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        nobody: Callable[[], Awaitable[object]] | None = None,
    ) -> bytes:
        """Request until there is an answer. What is asked must mean the same when it is asked twice.

        `nobody` is called when nobody listens, and may raise to give up.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.config.operation_timeout_s
        sent = False
        while True:
            self.check()
            left = deadline - loop.time()
            if left <= 0:
                raise self.unavailable(sent=sent)
            if not self.client.is_connected:
                await asyncio.sleep(_PAUSE_S)
                continue
            try:
                sent = True
                message = await self.client.request(
                    subject, body, timeout=min(_ATTEMPT_S, left), headers=headers
                )
            except NoRespondersError:
                await asyncio.sleep(_PAUSE_S)  # nobody leads at the moment
                if nobody is not None:
                    await nobody()
            except (NatsError, OSError, TimeoutError) as error:
                _log.debug("%s: %r", subject, error)
                await asyncio.sleep(_PAUSE_S)
            else:
                return message.data

    async def publish(
        self,
        subject: str,
        body: bytes,
        id_: str,
        headers: dict[str, str] | None = None,
        *,
        nobody: Callable[[], Awaitable[object]] | None = None,
    ) -> int:
        """Have a message stored once, however often it is sent, and return its sequence.

        Raises as `api` does.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.config.operation_timeout_s
        while True:
            answer = json.loads(
                await self.ask(subject, body, {"Nats-Msg-Id": id_, **(headers or {})}, nobody=nobody)
            )
            error = answer.get("error")
            if not error:
                return int(answer["seq"])
            if int(error.get("code", 0)) != 503 or loop.time() > deadline:
                raise ApiError(int(error.get("err_code", 0)), str(error.get("description", "")))
            await asyncio.sleep(_PAUSE_S)

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

    async def make_stream(self, name: str, subjects: list[str], replicas: int) -> None:
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
            "allow_direct": False,
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
        if error.code in _FOR_GOOD or error.code in {10074, 10005}:
            return InvalidConfiguration(f"{self.place}: {error}", hint="JetStream must be on, with all peers")
        if error.code == 10054:
            return TooLarge(f"{self.place}: {error}")
        return Unavailable(f"{self.place} refuses this: {error}", outcome=Outcome.NOT_APPLIED)

    def unavailable(self, *, sent: bool) -> Unavailable:
        """Return the error of what had no answer in time."""
        return Unavailable(
            f"{self.place} does not answer", outcome=Outcome.UNKNOWN if sent else Outcome.NOT_APPLIED
        )
