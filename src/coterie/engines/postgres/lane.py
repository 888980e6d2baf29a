"""Group commit: what is asked for while one transaction is under way goes into the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from ...errors import CoterieError, Outcome, Overloaded, Unavailable
from ...ports.entropy import Entropy
from ..common.shared import copy_of
from .config import PostgresConfig
from .link import Link, Repeated

__all__ = ["Answer", "Lane", "Waiting"]

O = TypeVar("O")  # noqa: E741 - an operation

Answer = tuple[Sequence[int], Sequence[int], int]
"""The codes and the numbers of a batch, and the revision after it."""

_OPEN_SESSION = "INSERT INTO @.sessions (id, batch, seen) VALUES ($1, 0, now()) ON CONFLICT DO NOTHING"
_SWEEP_SESSIONS = "DELETE FROM @.sessions WHERE seen < now() - interval '1 day'"
_CLOSE_SESSION = "DELETE FROM @.sessions WHERE id = $1"
_RECALL = "SELECT codes, numbers, revision FROM @.sessions WHERE id = $1 AND batch = $2"
_CLOSE_S = 2.0
_SESSION_S = 3600.0
"""After how long of silence another session is opened: others delete those that were not used for a day."""


class Waiting(Generic[O]):
    """An operation that has no result yet."""

    __slots__ = ("future", "operation", "since", "size")

    def __init__(self, operation: O, size: int, future: asyncio.Future[int], since: float) -> None:
        self.operation: O = operation
        self.size: int = size
        self.future: asyncio.Future[int] = future
        self.since: float = since

    def resolve(self, result: int | Exception) -> None:
        """Give whoever waits the result, or the error."""
        if self.future.done():
            return
        if isinstance(result, int):
            self.future.set_result(result)
        else:
            self.future.set_exception(result)


class Lane(Generic[O]):
    """Sends batches of operations, one after the other, each applied exactly once.

    `pack` turns operations into a statement and its values after the session and the batch's number; `unpack`
    turns the answer into a result for each.
    """

    def __init__(
        self,
        link: Link,
        config: PostgresConfig,
        entropy: Entropy,
        *,
        pack: Callable[[Sequence[O]], tuple[str, tuple[Any, ...]]],
        unpack: Callable[[Sequence[O], Answer], Sequence[int | Exception]],
        applied: Callable[[Answer], None],
    ) -> None:
        self._link = link
        self._config = config
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._pack = pack
        self._unpack = unpack
        self._applied = applied
        self._queue: deque[Waiting[O]] = deque()
        self._session = ""
        self._number = 0
        self._used = 0.0
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self.batches: int = 0
        """How many transactions were sent."""

    def ask(self, operation: O, size: int = 0) -> asyncio.Future[int]:
        """Return the future of the result; `size` is how many bytes of values it carries."""
        if self._closed:
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)
        if len(self._queue) >= self._config.max_queue:
            raise Overloaded(f"{len(self._queue)} operations wait to be sent", hint="write less at once")
        future: asyncio.Future[int] = self._loop.create_future()
        self._queue.append(Waiting(operation, size, future, self._loop.time()))
        if self._worker is None:
            self._worker = self._loop.create_task(self._work(), name="coterie-postgres-lane")
        return future

    @property
    def queued(self) -> int:
        """How many operations wait to be sent."""
        return len(self._queue)

    async def _work(self) -> None:
        try:
            while self._queue:
                batch = self._take()
                if batch:
                    await self._send(batch)
        finally:
            self._worker = None

    def _take(self) -> list[Waiting[O]]:
        """Return the next operations that are still waited for."""
        batch: list[Waiting[O]] = []
        size, config = 0, self._config
        late = self._loop.time() - config.operation_timeout_s
        while self._queue and len(batch) < config.max_batch:
            waiting = self._queue[0]
            if batch and size + waiting.size > config.max_batch_bytes:
                break
            self._queue.popleft()
            if waiting.since <= late:
                text = f"PostgreSQL at {config.place} did not get to it in {config.operation_timeout_s:g} s"
                waiting.resolve(Unavailable(text, outcome=Outcome.NOT_APPLIED))
            elif not waiting.future.done():
                batch.append(waiting)
                size += waiting.size
        return batch

    async def _send(self, batch: list[Waiting[O]]) -> None:
        operations = [waiting.operation for waiting in batch]
        deadline = batch[0].since + self._config.operation_timeout_s
        try:
            answer = await self._answer(*self._pack(operations), deadline)
        except CoterieError as error:
            # If the outcome is unknown the batch may still be under way. The number of the next one, in the
            # same session, keeps it from being applied after that.
            for waiting in batch:
                waiting.resolve(copy_of(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits
            for waiting in batch:
                waiting.resolve(error)
            return
        self.batches += 1
        self._applied(answer)
        for waiting, result in zip(batch, self._unpack(operations, answer), strict=True):
            waiting.resolve(result)

    async def _answer(self, statement: str, values: tuple[Any, ...], deadline: float) -> Answer:
        link = self._link
        now = self._loop.time()
        if not self._session or now - self._used > _SESSION_S:
            await self._open_session(deadline)
        self._used = now
        self._number += 1
        key = (self._session, self._number)
        try:
            rows = await link.ask_here(statement, (*key, *values), deadline)
        except Repeated:
            rows = await self._recall(key, deadline)
        [[codes, numbers, revision]] = rows
        if type(codes) is int:
            return (codes,), (numbers,), revision
        return codes or (), numbers or (), revision

    async def _recall(self, key: tuple[str, int], deadline: float) -> list[Any]:
        """Read what the batch was answered when it was applied."""
        trouble: CoterieError | None = None
        try:
            rows = await self._link.ask_here(_RECALL.replace("@", self._config.schema), key, deadline)
        except CoterieError as error:
            rows, trouble = [], error
        if not rows:
            self._session = ""
            raise Unavailable(
                f"PostgreSQL at {self._config.place} lost the answer to a batch that it may have applied",
                hint="was a standby promoted, or the session deleted?",
                outcome=Outcome.UNKNOWN,
            ) from trouble
        return rows

    async def _open_session(self, deadline: float) -> None:
        session, schema = self._entropy.identifier(), self._config.schema
        try:
            await self._link.ask_here(_OPEN_SESSION.replace("@", schema), (session,), deadline)
            await self._link.ask_here(_SWEEP_SESSIONS.replace("@", schema), (), deadline)
        except CoterieError as error:
            error.outcome = Outcome.NOT_APPLIED  # Of the operations nothing was sent yet.
            raise
        self._session, self._number = session, 0

    async def close(self) -> None:
        """Let what is under way end within two seconds, and refuse the rest. The caller closes the link."""
        self._closed = True
        refused, self._queue = self._queue, deque()
        for waiting in refused:
            waiting.resolve(Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED))
        worker = self._worker
        if worker is not None:
            await asyncio.wait([worker], timeout=_CLOSE_S)
            if not worker.done():
                self._link.close()  # Ends what it waits for, with its true outcome.
                await asyncio.wait([worker])
        elif self._session:
            session, self._session = self._session, ""
            deadline = self._loop.time() + _CLOSE_S
            statement = _CLOSE_SESSION.replace("@", self._config.schema)
            try:
                await self._link.ask_here(statement, (session,), deadline)
            except CoterieError:
                return  # A sweep deletes it.
