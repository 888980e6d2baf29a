"""The part of JetStream's API that the engine uses.

It is spoken directly, since the client library hides what matters here: its reads may go to a replica, and
its consumers begin again on their own.
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ...errors import CoterieError, InvalidConfiguration, Outcome, TooLarge, Unavailable
from .connection import ATTEMPT_S, PAUSE_S, Connection, Nobody

__all__ = ["NOT_FOUND", "WRONG_LAST", "ApiError", "Link", "Stored"]

_log = logging.getLogger("coterie.nats")
_parse = msgspec.json.Decoder().decode
NOT_FOUND = {10037, 10059, 10014}
"""No message, no stream, no consumer."""
_NOT_LED = {10008, 10009, 10118}
"""Another server leads now, or soon."""
_NOT_ENABLED = {10039, 10076}
"""JetStream is off, for this account or at all."""
_NO_PEERS = {10005, 10074}
"""There are fewer servers than replicas asked for, or no more are known of."""
_NOT_HEARD_OF = ("peer offline", "miscellaneous issue")
"""What the leader writes of members from which it has not heard."""
WRONG_LAST = {10070, 10071, 10164}
"""The stream, or the subject, has moved on."""
_TOO_LARGE = {10054}
_CANNOT_STORE = {10002, 10023, 10047, 10077}
"""No space, or a limit. What the server did until it found out is not known."""


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

    @property
    def misses_members(self) -> bool:
        """Whether there are enough members for the replicas, but the leader has not heard of all of them."""
        return self.code in _NO_PEERS and any(reason in self.text for reason in _NOT_HEARD_OF)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the leader of its stream has it. `time` is as the server writes it."""

    sequence: int
    subject: str
    data: bytes
    time: str


class Link(Connection):
    """JetStream over one connection."""

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
        time = asyncio.get_running_loop().time
        deadline = time() + (timeout_s or self.config.operation_timeout_s)
        sent = False
        while True:
            answer = await self.attempt(f"$JS.API.{subject}", body, None, deadline, sent=sent)
            if isinstance(answer, bytes):
                reply: dict[str, Any] = _parse(answer)
                error = reply.get("error") or {}
                code = int(error.get("err_code", 0))
                later = int(error.get("code", 0)) == 503 and code not in _NOT_ENABLED
                if not later and code not in _NOT_LED:
                    self.be_content()
                    if not error:
                        return reply
                    text = str(error.get("description", ""))
                    refused = ApiError(code, text)
                    # A leader that has just begun may not have heard of every member yet.
                    if not refused.misses_members or time() + PAUSE_S > deadline:
                        raise refused
                else:
                    await self.complain()
                _log.debug("%s: %s", subject, error)
            sent = sent or answer is not Nobody.LISTENS
            await asyncio.sleep(PAUSE_S)

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
            answer = await self.attempt(subject, body, all_headers, deadline, sent=doubtful)
            if isinstance(answer, bytes):
                reply = _parse(answer)
                error = reply.get("error") or {}
                if not error:
                    self.be_content()
                    return int(reply["seq"])
                self._refuse(int(error.get("err_code", 0)), str(error.get("description", "")), doubtful)
            if answer is not Nobody.LISTENS:
                doubtful = True
            elif nobody is not None:
                await nobody()
            await asyncio.sleep(PAUSE_S)

    def _refuse(self, code: int, text: str, doubtful: bool) -> None:
        """Raise if it is no use to send a message again that was refused like this."""
        if code in WRONG_LAST:
            raise ApiError(code, text)
        outcome = Outcome.UNKNOWN if doubtful or code in _CANNOT_STORE else Outcome.NOT_APPLIED
        if code in _TOO_LARGE:
            raise TooLarge(f"{self.place}: {text}", outcome=outcome)
        if code in _CANNOT_STORE | _NOT_ENABLED:
            raise Unavailable(f"{self.place} cannot store this: {text} ({code})", outcome=outcome)

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
        with self.taking(take) as inbox, suppress(NatsError, OSError, TimeoutError):
            if self.client.is_connected:
                await self.client.publish(f"$JS.API.DIRECT.GET.{stream}", request, inbox)
                async with asyncio.timeout(ATTEMPT_S):
                    return found if await ended else None
        return None

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
        while await self.attempt("$JS.API.INFO", b"", None, deadline + 1, sent=False) is Nobody.LISTENS:
            if asyncio.get_running_loop().time() > deadline:
                raise InvalidConfiguration(
                    f"{self.place} has no JetStream for this user",
                    hint="write `jetstream {}` into its configuration, and for its account",
                )
            await asyncio.sleep(PAUSE_S)

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
        if error.code in _NOT_ENABLED | _NO_PEERS and not error.misses_members:
            return InvalidConfiguration(
                f"{self.place}: {error}",
                hint="JetStream must be on, with as many servers as ?replicas= asks for",
            )
        return Unavailable(f"{self.place} refuses this: {error}", outcome=Outcome.NOT_APPLIED)


def _stored(headers: Mapping[str, str], data: bytes) -> Stored:
    return Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], data, headers["Nats-Time-Stamp"])
