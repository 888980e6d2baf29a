"""One connection that is made again when it is lost, and what its failures mean."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from ...errors import CoterieError, InvalidConfiguration, Outcome, PermissionDenied, Unavailable
from ...ports.entropy import Entropy
from ..common.shared import heard
from .config import PostgresConfig

__all__ = ["Link", "Repeated", "foreign"]

_BACK_OFF_S = (0.02, 1.0)

# SQLSTATEs, by what they say of the statement that failed.
_UNDONE_TRY_AGAIN = {"40001", "40P01", "55P03"}
"""Serialization, deadlock, lock: rolled back, and another try may do."""
_ENDED = ("57P", "08")
"""The server ends the connection, perhaps while a commit waits for standbys: the outcome is unknown."""
_READ_ONLY = "25006"
"""A standby, or a primary that became one: another host may take writes."""
_REPEATED = "CT001"
"""Ours: this batch was applied before."""
_REFUSES = ("53300", "57P03", "57P01", "57P02")
"""While connecting: too many connections, starting up, shutting down."""

_NOT_PREPARED = ("26000", "42P05")
"""There is no such prepared statement, or there is one already: each connection has its own."""


class Repeated(Exception):
    """A batch was sent again that had been applied."""


class Link:
    """At most one connection, which serves one question at a time, in the order of asking."""

    def __init__(self, config: PostgresConfig, entropy: Entropy) -> None:
        self._config = config
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._connection: Any = None
        self._connecting: asyncio.Task[Any] | None = None
        self._quiet = asyncio.Event()
        self._closed = False
        self.connections: int = 0
        """How often a connection was made."""
        self.asked: int = 0
        """How many questions are under way or wait for their turn."""

    async def ask(self, statement: str, *values: Any, deadline: float, idempotent: bool = True) -> list[Any]:
        """Return the rows of `statement`; try until `deadline`, a time of the loop.

        What is not `idempotent` is not tried again once its outcome is unknown. Raises `Unavailable` with
        the true outcome, and `Repeated`.
        """
        # In a task of its own: asyncpg would cancel the server's work when a caller is cancelled, and the
        # connection would be busy with that.
        asking = self._loop.create_task(self.ask_in_turn(statement, values, deadline, idempotent))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(heard)
            raise

    async def ask_in_turn(
        self, statement: str, values: tuple[Any, ...], deadline: float, idempotent: bool = True
    ) -> list[Any]:
        """Do the same for a caller that is never cancelled while it asks."""
        self.asked += 1
        try:
            async with self._turn:
                return await self.ask_here(statement, values, deadline, idempotent)
        finally:
            self.asked -= 1
            if self._closed and not self.asked:
                self._quiet.set()

    async def ask_here(
        self, statement: str, values: tuple[Any, ...], deadline: float, idempotent: bool = True
    ) -> list[Any]:
        """Do the same for a caller that is alone on the link, and is never cancelled while it asks."""
        outcome = Outcome.NOT_APPLIED
        pause_s = _BACK_OFF_S[0]
        while True:
            try:
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = await self.connect(deadline)
                return await self._fetch(connection, statement, values, deadline)
            except CoterieError as error:  # No connection.
                trouble: Exception = error
                if not isinstance(error, Unavailable) or self._closed:
                    error.outcome = outcome
                    raise
            except asyncpg.PostgresError as error:
                trouble, state = error, error.sqlstate or ""
                if state == _REPEATED:
                    raise Repeated from None
                if state.startswith(_ENDED):
                    outcome = Outcome.UNKNOWN
                elif state not in _UNDONE_TRY_AGAIN and state != _READ_ONLY:
                    raise foreign(error, self._config, outcome) from error
                if state not in _UNDONE_TRY_AGAIN:
                    self._drop()
            except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                trouble, outcome = error, Outcome.UNKNOWN
                self._drop()
            pause_s = min(pause_s * (1.5 + self._entropy.random()), _BACK_OFF_S[1])
            gone = outcome is Outcome.UNKNOWN and not idempotent
            if self._closed or gone or self._loop.time() + pause_s >= deadline:
                raise Unavailable(
                    f"PostgreSQL at {self._config.place} gives no answer: {_text(trouble)}",
                    hint="is it running, and can this machine reach it?",
                    outcome=outcome,
                ) from trouble
            await asyncio.sleep(pause_s)

    async def _fetch(
        self, connection: Any, statement: str, values: tuple[Any, ...], deadline: float
    ) -> list[Any]:
        timer = self._loop.call_at(deadline, connection.terminate)
        try:
            rows: list[Any] = await connection.fetch(statement, *values)
            return rows
        except AttributeError as error:
            # It is asyncpg's, where it is broken off between two steps of one query.
            if not connection.is_closed():
                raise
            raise asyncpg.InterfaceError("the connection was broken off") from error
        finally:
            timer.cancel()

    async def connect(self, deadline: float) -> Any:
        """Connect, once. Raises `Unavailable`, `PermissionDenied` or `InvalidConfiguration`."""
        if self._closed:
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)
        config = self._config
        several = "," in config.dsn.partition("//")[2].partition("/")[0]
        try:
            self._connecting = connecting = self._loop.create_task(
                asyncpg.connect(
                    config.dsn,
                    timeout=max(deadline - self._loop.time(), 0.01),
                    statement_cache_size=100 if config.prepared else 0,
                    **({"target_session_attrs": "read-write"} if several else {}),
                )
            )
            connection = await connecting
        except asyncio.CancelledError:
            if not self._closed:
                raise
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED) from None
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            raise PermissionDenied(
                f"PostgreSQL at {config.place} refuses the login: {error}",
                hint="look at the user and the password of the URL, and at pg_hba.conf",
            ) from error
        except asyncpg.InvalidCatalogNameError as error:
            raise InvalidConfiguration(
                f"PostgreSQL at {config.place}: {error}", hint="create it, or name another in the URL"
            ) from error
        except asyncpg.PostgresError as error:
            raise foreign(error, config, Outcome.NOT_APPLIED) from error
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            raise InvalidConfiguration(f"the URL of {config.place} cannot be used: {error}") from error
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise Unavailable(
                f"PostgreSQL at {config.place} cannot be reached: {_text(error)}",
                hint="is it running, and is the URL right?",
                outcome=Outcome.NOT_APPLIED,
            ) from error
        if self._closed:  # Meanwhile.
            connection.terminate()
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)
        self._connection = connection
        self.connections += 1
        return connection

    async def execute(self, script: str, deadline: float) -> None:
        """Run statements that return nothing, on a connection that was just made."""
        connection = self._connection or await self.connect(deadline)
        timer = self._loop.call_at(deadline, connection.terminate)
        try:
            await connection.execute(script)
        except asyncpg.PostgresError as error:
            raise foreign(error, self._config, Outcome.UNKNOWN) from error
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise Unavailable(f"PostgreSQL at {self._config.place}: {_text(error)}") from error
        finally:
            timer.cancel()

    def close(self) -> None:
        """Break the connection off; whoever asks gets `Unavailable`."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        self._drop()
        if not self.asked:
            self._quiet.set()

    async def ended(self) -> None:
        """Return when nobody asks any more, after `close`: not even for a caller that has left."""
        await self._quiet.wait()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def foreign(error: asyncpg.PostgresError, config: PostgresConfig, outcome: Outcome) -> CoterieError:
    """Return the server's `error` as ours; what it refused was rolled back."""
    state = error.sqlstate or ""
    text = f"PostgreSQL at {config.place}: {error}"
    if state.startswith("42501"):
        return PermissionDenied(
            text, hint="grant the user what it needs in the engine's schema", outcome=outcome
        )
    if state.startswith(("3F", "42P01", "42883")):
        return Unavailable(
            text, hint="were the engine's tables dropped? Start the node again", outcome=outcome
        )
    if state in _NOT_PREPARED:
        return InvalidConfiguration(
            f"the pooler before PostgreSQL at {config.place} does not keep prepared statements",
            hint="add prepared=off to the URL",
            outcome=outcome,
        )
    if state in _REFUSES:
        return Unavailable(text, hint="it takes no connections now", outcome=outcome)
    return Unavailable(text, outcome=outcome)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
