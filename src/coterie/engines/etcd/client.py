"""Calls to whichever member answers, with a login, a bound in time and true outcomes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from ...errors import (
    CoterieError,
    InvalidConfiguration,
    Outcome,
    Overloaded,
    Unavailable,
)
from ...ports.entropy import Entropy
from .config import EtcdConfig
from .messages import credentials, first_text, range_request
from .refusals import Verdict, judge
from .watchdog import Watchdog

__all__ = ["Client"]

_BACK_OFF_S = (0.02, 0.5)
_CLOSE_S = 2.0
_AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"
_RANGE = "/etcdserverpb.KV/Range"
_LOOK_S = 0.5
_LEADER = grpc.aio.Metadata(("hasleader", "true"))
"""Goes with each call: only a member that knows a leader is to answer."""
_OPTIONS = [
    # The caller decides what is sent again: a repeated transaction could be applied twice.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A connection that is dead without a word is found out. The server allows a ping every five seconds.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    # Channels of two engines share no connection, so that to close one is nothing to the other.
    ("grpc.use_local_subchannel_pool", 1),
]


class _Swallowed(Exception):
    """A call whose leader is no longer."""


_FAILURES = (
    _Swallowed,
    grpc.aio.AioRpcError,
    grpc.aio.UsageError,
    grpc.aio.InternalError,
    asyncio.CancelledError,
)


class Client:
    """Belongs to one engine and its loop. It stays with a member until that fails."""

    def __init__(self, config: EtcdConfig, entropy: Entropy) -> None:
        self.config: EtcdConfig = config
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._channels: dict[int, Any] = {}
        self._methods: dict[tuple[int, str], Any] = {}
        self._current = entropy.randbelow(len(config.endpoints))
        self._token = ""
        self._logging_in: asyncio.Task[None] | None = None
        self._watchdog = Watchdog(self._look)
        self._turns = asyncio.Semaphore(config.max_in_flight)
        self.under_way: int = 0
        """How many calls have begun and not ended."""
        self._idle = asyncio.Event()
        self._closed = False
        self.switches: int = 0
        """How often another member was turned to."""

    async def call(
        self, method: str, request: bytes, *, idempotent: bool = True, patient: bool = True
    ) -> bytes:
        """Return the response to a unary call.

        What is not `idempotent` is not sent again once it may have been applied. Who is not `patient` is
        content when each member has failed once. Raises `Unavailable` with the true outcome, `Compacted`,
        and what `judge` says.
        """
        return await self._counted(self._call(method, request, idempotent, patient))

    async def keep_alive(self, method: str, request: bytes) -> bytes:
        """Return the first response of a stream to its first request."""
        return await self._counted(self._call(method, request, True, True, stream=True))

    async def _counted(self, calling: Coroutine[Any, Any, bytes]) -> bytes:
        if self._closed or self.under_way >= self.config.max_queue:
            calling.close()
            if self._closed:
                raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)
            raise Overloaded(f"{self.under_way} calls to etcd are under way", hint="write less at once")
        self.under_way += 1
        try:
            return await calling
        finally:
            self.under_way -= 1
            if self.under_way == 0:
                self._idle.set()

    async def _call(
        self, method: str, request: bytes, idempotent: bool, patient: bool, *, stream: bool = False
    ) -> bytes:
        config = self.config
        deadline = self._loop.time() + config.operation_timeout_s
        outcome, pause_s, said = Outcome.NOT_APPLIED, _BACK_OFF_S[0], ""
        for attempt in itertools.count(1):
            left_s = deadline - self._loop.time()
            if self._closed or left_s <= 0:
                text = f"etcd at {config.place} gave no answer in {config.operation_timeout_s:g} s {said}"
                raise Unavailable(text.strip(), outcome=outcome)
            member = self._current
            timeout_s = min(left_s, config.attempt_timeout_s) if idempotent else left_s
            send = self._first_of_stream if stream else self._unary
            try:
                async with self._turns:
                    return await send(member, method, request, timeout_s)
            except _FAILURES as error:
                verdict = self._verdict(error)
            said = f"({verdict.error})"
            if verdict.outcome is Outcome.UNKNOWN:
                outcome = Outcome.UNKNOWN
            if isinstance(verdict.error, CoterieError):
                verdict.error.outcome = outcome
            if verdict.leave:
                self.leave(member)
            tried = not patient and attempt >= len(config.endpoints)
            if not verdict.again or tried or (outcome is Outcome.UNKNOWN and not idempotent):
                raise verdict.error
            if verdict.log_in:
                if attempt > 3:
                    raise verdict.error
                self._token = ""
                continue
            if attempt % len(config.endpoints) == 0:
                await asyncio.sleep(min(pause_s, max(deadline - self._loop.time(), 0)))
                pause_s = min(pause_s * (1.5 + self._entropy.random()), _BACK_OFF_S[1])
        raise AssertionError  # The loop has no other end.

    def _verdict(self, error: BaseException) -> Verdict:
        """Return what one of `_FAILURES` means. Raises it if it is the caller's own cancellation."""
        if isinstance(error, grpc.aio.AioRpcError):
            return judge(error.code(), error.details() or "", self.config.place)
        if isinstance(error, _Swallowed):
            return Verdict(Unavailable("etcd's leader changed meanwhile"), Outcome.UNKNOWN, again=True)
        # A channel that is closed cancels its calls, not the task that waits for them.
        task = asyncio.current_task()
        if not self._closed or (task is not None and task.cancelling()):
            raise error
        return Verdict(Unavailable("the engine was closed meanwhile"), Outcome.UNKNOWN)

    async def _unary(self, member: int, method: str, request: bytes, timeout_s: float) -> bytes:
        metadata = await self.metadata(member) if self.config.user else _LEADER
        call = self._method(member, method)(request, timeout=timeout_s, metadata=metadata)
        sent = self._watchdog.began(member, call)
        try:
            response: bytes = await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not sent.given_up or (task is not None and task.cancelling()):
                raise
            raise _Swallowed from None
        finally:
            self._watchdog.ended(sent)
        self._watchdog.newest = response
        return response

    async def _look(self, member: int) -> bytes:
        """Return a response of a member that knows a leader, without asking that; else nothing."""
        request = range_request(f"{self.config.prefix}/k/".encode(), keys_only=True, stale=True)
        try:
            metadata = await self.metadata(member)
            response: bytes = await self._method(member, _RANGE)(request, timeout=_LOOK_S, metadata=metadata)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError):
            return b""
        return response

    async def _first_of_stream(self, member: int, method: str, request: bytes, timeout_s: float) -> bytes:
        call = self.open_stream(member, method, await self.metadata(member), timeout_s)
        try:
            await call.write(request)
            response = await call.read()
            if response is grpc.aio.EOF:
                raise grpc.aio.AioRpcError(
                    await call.code(), grpc.aio.Metadata(), grpc.aio.Metadata(), await call.details()
                )
            found: bytes = response
            return found
        finally:
            call.cancel()

    def open_stream(self, member: int, method: str, metadata: Any, timeout_s: float | None = None) -> Any:
        """Begin a stream of both directions at `member`."""
        return self._channel(member).stream_stream(method)(metadata=metadata, timeout=timeout_s)

    @property
    def member(self) -> int:
        """The member that is asked now, by its place in the URL."""
        return self._current

    def leave(self, member: int) -> None:
        """Turn to the next member, unless that was done already."""
        if self._current == member and len(self.config.endpoints) > 1:
            self._current = (member + 1) % len(self.config.endpoints)
            self.switches += 1

    async def metadata(self, member: int) -> list[tuple[str, str]]:
        """Return what goes with each call: the demand for a leader, and the login."""
        found = [*_LEADER]
        if self.config.user:
            if not self._token:
                await self._log_in(member)
            found += [("token", self._token)] if self._token else []
        return found

    def log_out(self) -> None:
        """Forget the token, which was refused."""
        self._token = ""

    async def _log_in(self, member: int) -> None:
        if self._logging_in is None or self._logging_in.done():
            self._logging_in = self._loop.create_task(self._authenticate(member))
        await asyncio.shield(self._logging_in)

    async def _authenticate(self, member: int) -> None:
        request = credentials(self.config.user, self.config.password)
        try:
            response = await self._method(member, _AUTHENTICATE)(
                request, timeout=self.config.attempt_timeout_s
            )
        except grpc.aio.AioRpcError as error:
            if "authentication is not enabled" in (error.details() or ""):
                return
            raise
        self._token = first_text(response, 2)

    def _method(self, member: int, method: str) -> Any:
        found = self._methods.get((member, method))
        if found is None:
            found = self._methods[member, method] = self._channel(member).unary_unary(method)
        return found

    def _channel(self, member: int) -> Any:
        if self._closed:
            raise grpc.aio.UsageError("the engine is closed")
        found = self._channels.get(member)
        if found is None:
            address, config = self.config.endpoints[member], self.config
            if config.tls:
                found = grpc.aio.secure_channel(address, _tls(config), options=_OPTIONS)
            else:
                found = grpc.aio.insecure_channel(address, options=_OPTIONS)
            self._channels[member] = found
        return found

    async def close(self) -> None:
        """Let the calls under way end within two seconds, then break them off."""
        await self._wait_idle()
        self._closed = True
        await self._watchdog.close()
        for channel in self._channels.values():
            await channel.close()
        await self._wait_idle()

    async def _wait_idle(self) -> None:
        self._idle.clear()
        if self.under_way:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _CLOSE_S)


def _tls(config: EtcdConfig) -> Any:
    try:
        ca, key, certificate = (
            file.read_bytes() if file is not None else None
            for file in (config.ca_file, config.key_file, config.cert_file)
        )
    except OSError as error:
        raise InvalidConfiguration(f"a file of the URL cannot be read: {error}") from error
    return grpc.ssl_channel_credentials(ca, key, certificate)
