"""One connection on which many operations are under way, answered in their order.

Everything that waits is sent together, so that sixty callers at once cost a few packets. Nothing is ever
sent twice: what was sent and not answered when the connection ends has an unknown outcome.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from ...errors import CoterieError, Outcome, Overloaded, Unavailable
from .config import RedisConfig
from .refusals import connection_error, demoted, refusal
from .scripts import Script

__all__ = ["Link", "ScriptArgument", "ask", "connect", "hang_up"]

_log = logging.getLogger("coterie.redis")

ScriptArgument = bytes | str | int
Greet = Callable[[Connection], Awaitable[None]]


async def connect(config: RedisConfig, greet: Greet | None = None) -> Connection:
    """Return a connection that is logged in and that `greet` was content with.

    Raises:
        PermissionDenied: the server does not know the user, or not with this password.
        Unavailable: the server cannot be reached.
    """
    options: dict[str, Any] = {
        "host": config.host,
        "port": config.port,
        "db": config.database,
        "username": config.user or None,
        "password": config.password or None,
        "socket_connect_timeout": config.connect_timeout_s,
        "socket_timeout": None,  # the watchdogs keep the times
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "coterie",
    }
    if config.tls:
        options |= {"ssl_ca_certs": config.ca_file or None}
        options |= {"ssl_certfile": config.cert_file or None, "ssl_keyfile": config.key_file or None}
    connection: Connection = (SSLConnection if config.tls else Connection)(**options)
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            await connection.connect()  # type: ignore[no-untyped-call]
            if greet is not None:
                await greet(connection)
    except (RedisError, OSError, TimeoutError) as error:
        await hang_up(connection)
        raise connection_error(error, config.place) from error
    except BaseException:
        await hang_up(connection)
        raise
    return connection


async def hang_up(connection: Connection) -> None:
    """Close the connection, whatever state it is in."""
    with suppress(RedisError, OSError, TimeoutError):
        await connection.disconnect(nowait=True)


async def ask(connection: Connection, *words: ScriptArgument) -> Any:
    """Send one command and return its answer; for connections that one task has to itself."""
    await connection.send_command(*words, check_health=False)
    return await connection.read_response(disable_decoding=True, timeout=math.inf)


@dataclass(slots=True, eq=False)
class _Call:
    words: tuple[ScriptArgument, ...]
    answer: asyncio.Future[Any]
    since: float


class Link:
    """Keeps a connection, and makes it anew when it ends."""

    def __init__(self, config: RedisConfig, prefix: str, greet: Greet) -> None:
        self.reconnects: int = 0
        self._config = config
        self._prefix = prefix
        self._greet = greet
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[_Call] = deque()
        self._sent: deque[_Call] = deque()
        self._news = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._trouble: CoterieError | None = None
        self._closed = False

    async def open(self) -> None:
        """Connect for the first time; raises as `connect` does."""
        connection = await connect(self._config, self._greet)
        self._keeper = asyncio.create_task(self._keep(connection), name="coterie-redis-link")

    @property
    def waiting(self) -> int:
        """How many operations wait for their answers."""
        return len(self._unsent) + len(self._sent)

    async def run(self, script: Script, *arguments: ScriptArgument) -> Any:
        """Run a script and return its answer.

        Raises `Unavailable` when there is none, whose outcome says whether the server may have run it.
        """
        try:
            return await self._call("EVALSHA", script.sha, 1, self._prefix, *arguments)
        except NoScriptError:
            pass  # the server does not know it yet, so that nothing was run
        except ResponseError as error:
            raise self._refused(error) from error
        try:
            return await self._call("EVAL", script.text, 1, self._prefix, *arguments)
        except ResponseError as error:
            raise self._refused(error) from error

    async def close(self) -> None:
        """End the connection; what is under way ends with `Unavailable`. Idempotent."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        self._fail(self._unsent, Outcome.NOT_APPLIED)

    def _refused(self, error: ResponseError) -> CoterieError:
        if demoted(error):
            # It is no primary any more, and the next connection is made only when it is one again.
            self._drop()
        return refusal(error, self._config.place)

    def _drop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    def _call(self, *words: ScriptArgument) -> asyncio.Future[Any]:
        if self._closed:
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)
        if self.waiting >= self._config.max_waiting:
            raise Overloaded(f"{self.waiting} operations wait for {self._config.place}")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._unsent.append(_Call(words, answer, self._loop.time()))
        self._news.set()
        return answer

    async def _keep(self, connection: Connection | None) -> None:
        delay = self._config.reconnect_min_s
        watchdog = asyncio.create_task(self._watch(), name="coterie-redis-watchdog")
        try:
            while True:
                if connection is None:
                    connection = await self._connect_again(delay)
                    delay = min(delay * 2, self._config.reconnect_max_s)
                    continue
                delay = self._config.reconnect_min_s
                await self._serve(connection)
                connection = None
        finally:
            watchdog.cancel()

    async def _connect_again(self, delay: float) -> Connection | None:
        try:
            connection = await connect(self._config, self._greet)
        except CoterieError as error:
            if self._trouble is None:
                _log.warning("no connection to %s: %s", self._config.place, error)
            self._trouble = error
            await asyncio.sleep(delay)
            return None
        self._trouble = None
        self.reconnects += 1
        return connection

    async def _serve(self, connection: Connection) -> None:
        """Send and receive until the connection ends."""
        self._reader = asyncio.create_task(self._read(connection), name="coterie-redis-reader")
        writer = asyncio.create_task(self._write(connection), name="coterie-redis-writer")
        try:
            await asyncio.wait([self._reader, writer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (self._reader, writer):
                task.cancel()
            results = await asyncio.gather(self._reader, writer, return_exceptions=True)
            await hang_up(connection)
            trouble = [result for result in results if isinstance(result, Exception)]
            if trouble and not self._closed:
                _log.warning("the connection to %s ended: %s", self._config.place, trouble[0])
            self._fail(self._sent, Outcome.UNKNOWN)

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            commands = []
            while self._unsent:
                call = self._unsent.popleft()
                if not call.answer.done():
                    commands.append(call.words)
                    self._sent.append(call)
            if commands:
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)

    async def _read(self, connection: Connection) -> None:
        while True:
            result: Any
            try:
                result = await connection.read_response(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                result = error
            answer = self._sent.popleft().answer
            if answer.done():
                continue
            if isinstance(result, ResponseError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    async def _watch(self) -> None:
        """Give up what waits for too long."""
        limit = self._config.operation_timeout_s
        while True:
            await asyncio.sleep(limit / 10)
            overdue = self._loop.time() - limit
            if self._sent and self._sent[0].since < overdue:
                # Answers come in order, so nothing behind it can be answered on this connection either.
                self._drop()
            late: deque[_Call] = deque()
            while self._unsent and self._unsent[0].since < overdue:
                late.append(self._unsent.popleft())
            self._fail(late, Outcome.NOT_APPLIED)

    def _fail(self, calls: deque[_Call], outcome: Outcome) -> None:
        while calls:
            answer = calls.popleft().answer
            if not answer.done():
                answer.set_exception(self._unavailable(outcome))

    def _unavailable(self, outcome: Outcome) -> Unavailable:
        if self._closed:
            return Unavailable("the engine was closed meanwhile", outcome=outcome)
        why = f": {self._trouble.message}" if self._trouble is not None else ""
        return Unavailable(f"{self._config.place} does not answer{why}", outcome=outcome)
