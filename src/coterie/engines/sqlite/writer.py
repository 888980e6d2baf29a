"""The writer thread: takes what has gathered, applies it in one transaction, reports back once."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from ...errors import CorruptData, CoterieError, Outcome, Unavailable
from ...ports.clock import Clock
from .batch import Applied, Applier
from .config import SqliteConfig
from .operations import Operation, Result, error_of, failed, overloaded
from .schema import connect, foreign
from .sessions import SessionLog
from .turns import Turns

__all__ = ["Request", "Sink", "Writer"]

Sink = Callable[[Any, Result], None]
Request = tuple[Operation, Sink | None, Any, tuple[str, int] | None]
"""An operation; who is told its tag and its result, or None if its tag is a future that gets the result;
its tag; and, for another process, whose tag is the operation's number, its session and the number up to
which that has heard its results."""


_MOMENT_S = 0.001
"""How long those who were just answered may take to come back; see `turns`."""


class Writer:
    """Group commit: while one transaction is synced to the disk, the next one gathers.

    `submit` and all callbacks are on the loop's thread, and each batch costs one hop there and one
    back, however many operations it holds.
    """

    def __init__(
        self,
        config: SqliteConfig,
        clock: Clock,
        boot: str,
        *,
        on_applied: Callable[[Applied], None],
    ) -> None:
        self._config = config
        self._on_applied = on_applied
        self._loop = asyncio.get_running_loop()
        self._gathered: deque[Request] = deque()
        self._others = 0
        """How many of those gathered are of other processes."""
        self._busy = False
        self._handing = False
        self._closing = False
        self.turns: Turns = Turns()
        self._moment: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._inbox: queue.SimpleQueue[tuple[list[Request], bool] | None] = queue.SimpleQueue()
        """Batches, and whether operations of other processes are in it, whose answers are stored."""
        self.batches: int = 0
        self.operations: int = 0
        self._connection = connect(config, writer=True)
        try:
            self.applier: Applier = Applier(self._connection, clock, boot)
            self.applier.forget_sessions(config.session_s)
            self._sessions = SessionLog(self.applier.sessions())
        except sqlite3.Error as error:
            self._connection.close()
            raise foreign(error, config.path) from error
        except (LookupError, TypeError, ValueError, msgspec.MsgspecError) as error:
            self._connection.close()
            raise CorruptData(
                f"{config.path} is damaged: {error!r}", hint="restore it from a backup"
            ) from error
        self._thread = threading.Thread(target=self._work, name="coterie-sqlite-writer", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """How many operations wait for a transaction."""
        return len(self._gathered)

    def ask(self, operation: Operation) -> asyncio.Future[int]:
        """Let `operation` be part of the next transaction; return the future of its result or error.

        Most writes come this way, so it makes no call that it can do without.
        """
        gathered = self._gathered
        if len(gathered) >= self._config.max_queue:
            raise overloaded(len(gathered))
        future: asyncio.Future[int] = self._loop.create_future()
        gathered.append((operation, None, future, None))
        if not self._busy and not self._handing:
            self._handing = True
            self._loop.call_soon(self._hand_over)
        return future

    def submit(self, request: Request) -> None:
        """Let `request` be part of the next transaction. Its answer comes on the loop."""
        self._gathered.append(request)
        origin = request[3]
        if origin is not None:
            self._others += 1
            self.turns.came(origin[0])
        if not self._busy and not self._handing:
            # At the end of this iteration of the loop, so that all who were woken together write together.
            self._handing = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._handing = False
        gathered = self._gathered
        if not gathered or self._busy or self._waits():
            return
        shared = self._others > 0
        if len(gathered) <= self._config.max_batch:
            batch = list(gathered)
            gathered.clear()
            self._others = 0
        else:
            batch = [gathered.popleft() for _ in range(self._config.max_batch)]
            self._others -= sum(origin is not None for _, _, _, origin in batch)
        self._busy = True
        self._inbox.put((batch, shared))

    def _waits(self) -> bool:
        """Whether others get a moment to come back, because operations of this process would go first."""
        if self.turns.awaited and not self._closing and self._others < len(self._gathered):
            if self._moment is None:
                self._moment = self._loop.call_later(_MOMENT_S, self._end_moment)
            return True
        if self._moment is not None:
            self._moment.cancel()
            self._moment = None
        return False

    def _end_moment(self) -> None:
        self._moment = None
        self.turns.give_up()
        self._hand_over()

    def _work(self) -> None:
        while (found := self._inbox.get()) is not None:
            batch, shared = found
            outcome: Applied | CoterieError
            try:
                operations = [request[0] for request in batch]
                if shared:
                    outcome = self.applier.apply(operations, partial(self._sessions.prepare, batch))
                    self._sessions.confirm()
                else:
                    outcome = self.applier.apply(operations)
            except sqlite3.Error as error:
                outcome = foreign(error, self._config.path)
            except Exception as error:  # noqa: BLE001 - a defect of ours must not end the thread unseen
                outcome = Unavailable(f"the writer failed: {error!r}", outcome=Outcome.NOT_APPLIED)
            try:
                self._loop.call_soon_threadsafe(self._report, batch, shared, outcome)
            except RuntimeError:
                break  # The loop was closed without us: what was committed is committed.
        self._connection.close()

    def _report(self, batch: list[Request], shared: bool, outcome: Applied | CoterieError) -> None:
        self._busy = False
        self.batches += 1
        self.operations += len(batch)
        if isinstance(outcome, Applied):
            results: Sequence[Result] = outcome.results
        else:
            results = [failed(outcome)] * len(batch)
        for (_, sink, tag, _), result in zip(batch, results, strict=True):
            if sink is not None:
                sink(tag, result)
            elif not tag.done():
                if isinstance(result, int):
                    tag.set_result(result)
                else:
                    tag.set_exception(error_of(result))
        if shared:
            self.turns.answered({origin[0] for _, _, _, origin in batch if origin is not None})
        if isinstance(outcome, Applied):
            self._on_applied(outcome)
        if self._gathered:
            # Those who were just answered get to write again before the next transaction is cut.
            if not self._handing:
                self._handing = True
                self._loop.call_soon(self._hand_over)
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self) -> None:
        """Finish what was submitted, and end the thread."""
        if self._closing:
            return
        self._closing = True
        if self._busy or self._gathered:
            self._idle = self._loop.create_future()
            await self._idle
        self._inbox.put(None)
        # The thread is idle but for closing its connection, which may fold the log into the file.
        await self._loop.run_in_executor(None, self._thread.join)
