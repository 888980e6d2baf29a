"""`SqliteEngine`: one process's end of a SQLite file that several processes share."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...errors import CoterieError, InvalidConfiguration, Outcome, Unavailable
from ...ports.clock import Clock
from ...ports.entropy import Entropy
from .batch import Applied
from .config import SqliteConfig
from .follower import Follower
from .hub import Hub
from .leader import Leader
from .log import SqliteLog
from .operations import Failed, Operation, Result, error_of, overloaded
from .role import Role
from .schema import connect, prepare
from .store import SqliteStore

__all__ = ["SqliteEngine", "open_engine"]

_log = logging.getLogger("coterie.sqlite")
_SWEEP_S = 0.25


class _Asked:
    """An operation of this process that has no result yet."""

    __slots__ = ("future", "operation", "sent", "since")

    def __init__(self, operation: Operation, future: asyncio.Future[int], since: float) -> None:
        self.operation = operation
        self.future = future
        self.since = since
        self.sent = False
        """Whether any writer may have seen it."""


class SqliteEngine:
    """Reads on the loop's thread; writes through whichever process holds the writer role.

    An operation has a number and stays asked until a writer answers it: when the writer dies, the
    next one is asked again, and knows what the dead one did.
    """

    name = "sqlite"

    def __init__(self, config: SqliteConfig, clock: Clock, entropy: Entropy) -> None:
        # One file has one name, whichever way it is reached and wherever this process goes: its lock has it.
        config = replace(config, path=Path(os.path.realpath(config.path)))
        self.config: SqliteConfig = config
        self.hub: Hub = Hub()
        self._clock = clock
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._session = entropy.identifier()
        self._role = Role(config.path)
        self._leader: Leader | None = None
        self._follower: Follower | None = None
        self._followed: tuple[int, int] | None = None
        self._asked: dict[int, _Asked] = {}
        self._unsent: deque[int] = deque()
        self._in_flight: set[int] = set()
        self._last_number = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._keeper: asyncio.Task[None] | None = None
        self._takeovers = 0
        self._trouble = ""
        self._closing = False
        self._all_answered: asyncio.Future[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take a role and open the file for reading. Raises as `open_engine` says."""
        self.config.path.parent.mkdir(parents=True, exist_ok=True)
        self._keeper = asyncio.create_task(self._keep_role(), name="coterie-sqlite-role")
        try:
            async with asyncio.timeout(self.config.operation_timeout_s):
                await self._settled
            self.reader: sqlite3.Connection = connect(self.config, writer=False)
        except TimeoutError:
            await self._drop_role()
            raise Unavailable(
                f"the process that writes {self.config.path} does not answer",
                hint="is it stopped? `coterie status` names its pid",
                outcome=Outcome.NOT_APPLIED,
            ) from None
        except BaseException:
            await self._drop_role()
            raise
        self.store: SqliteStore = SqliteStore(self)
        self.log: SqliteLog = SqliteLog(self)

    # Operations

    def ask(self, operation: Operation) -> asyncio.Future[int]:
        """Have `operation` done by the writer, and return the future of its result or error."""
        if self._ending is not None:
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)
        if self._leader is not None:
            # It lives and dies with this process, so it needs no number to be asked for again under.
            return self._leader.writer.ask(operation)
        if len(self._asked) >= self.config.max_queue:
            raise overloaded(len(self._asked))
        future: asyncio.Future[int] = self._loop.create_future()
        number = self._last_number = self._last_number + 1
        self._asked[number] = _Asked(operation, future, self._time())
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        self._unsent.append(number)
        self._send_unsent()
        return future

    def _send_unsent(self) -> None:
        follower = self._follower
        if follower is None:
            return
        while self._unsent and len(self._in_flight) < self.config.max_unanswered:
            number = self._unsent.popleft()
            asked = self._asked.get(number)
            if asked is not None:
                asked.sent = True
                self._in_flight.add(number)
                follower.do(asked.operation, number, next(iter(self._asked)) - 1)

    def _answered(self, number: int, result: Result) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            return  # Given up before.
        self._in_flight.discard(number)
        if self._unsent:
            self._send_unsent()
        _resolve(asked.future, result)
        if self._all_answered is not None and not self._asked and not self._all_answered.done():
            self._all_answered.set_result(None)

    def _sweep(self) -> None:
        """Give up what has waited for too long; the oldest stand first."""
        self._sweeper = None
        now = self._time()
        for number, asked in list(self._asked.items()):
            if now - asked.since < self.config.operation_timeout_s:
                break
            self._answered_late(number, asked)
        self._send_unsent()  # What was given up made room, and its answers will not say so.
        if self._asked:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
            if self._follower is not None and now - next(iter(self._asked.values())).since > _SWEEP_S:
                self._suspect(self._follower)

    def _suspect(self, follower: Follower) -> None:
        """Leave a writer that is dead, though the connection to it is not: a child that it forked keeps that.

        Either nobody has its role, or somebody who listens at a socket of his own.
        """
        with suppress(CoterieError):
            if self._role.take() or self._role.socket_stamp() != self._followed:
                follower.abort()

    def _answered_late(self, number: int, asked: _Asked) -> None:
        if self._leader is not None:
            return  # It is on its way to this process's own disk, and its outcome will be known.
        del self._asked[number]
        self._in_flight.discard(number)
        if not asked.future.done():
            trouble = f": {self._trouble}" if self._trouble else ""
            asked.future.set_exception(
                Unavailable(
                    f"the process that writes {self.config.path} gave no answer within "
                    f"{self.config.operation_timeout_s:g} s{trouble}",
                    hint="is it stopped? `coterie status` names its pid",
                    outcome=Outcome.UNKNOWN if asked.sent else Outcome.NOT_APPLIED,
                )
            )
        if self._all_answered is not None and not self._asked and not self._all_answered.done():
            self._all_answered.set_result(None)

    # Roles

    async def _keep_role(self) -> None:
        wait_s = 0.002
        while not self._closing:
            try:
                if self._role.take():
                    await self._lead()
                    return
                began = self._time()
                if await self._follow() and self._time() - began > _SWEEP_S:
                    wait_s = 0.002
                    continue  # It has just died. One that throws this process out at once is not hurried.
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - whatever it is, this task must not end unseen
                self._trouble = str(error)
                if not self._settled.done():
                    self._settled.set_exception(error if isinstance(error, CoterieError) else _refused(error))
                    return
                _log.warning("%s: no writer yet: %s", self.config.path, error)
            # The writer has just died, or begins just now, so the first waits are short.
            await asyncio.sleep(wait_s * (0.5 + self._entropy.random()))
            wait_s = min(wait_s * 1.5, 0.1)

    async def _lead(self) -> None:
        try:
            prepare(self.config)
            leader = Leader(self.config, self._clock, boot_id(), publish=self._publish)
        except BaseException:
            self._role.give_up()
            raise
        try:
            await leader.serve(self._role.socket_path())
        except BaseException:
            await leader.close()
            self._role.give_up()
            raise
        self._leader = leader
        self._takeovers += 1
        own = leader.sessions.get(self._session)
        known = {} if own is None else own.outcomes
        self._unsent.clear()
        self._in_flight.clear()
        for number, asked in list(self._asked.items()):
            if number in known:
                self._answered(number, known[number])
            else:
                asked.sent = True
                leader.submit(asked.operation, self._answered, number)
        self.hub.resync()
        self._settle()

    async def _follow(self) -> bool:
        """Be a follower until the writer is lost; return whether there was one."""
        self._followed = self._role.socket_stamp()
        try:
            _, follower = await self._loop.create_unix_connection(
                lambda: Follower(self._session, self.hub, self._answered), self._role.socket_path()
            )
        except (FileNotFoundError, ConnectionError):
            return False
        self._follower = follower
        self._in_flight.clear()
        self._unsent = deque(self._asked)
        self._send_unsent()
        self.hub.resync()
        self._settle()
        try:
            await asyncio.shield(follower.lost)
        finally:
            self._follower = None
            self._in_flight.clear()
            self._unsent = deque(self._asked)
            follower.abort()
        self.hub.resync()
        return True

    def _settle(self) -> None:
        self._trouble = ""
        if not self._settled.done():
            self._settled.set_result(None)

    def _publish(self, applied: Applied) -> None:
        if self.hub.watched:
            self.hub.publish(applied.changes())
        if applied.appended:
            self.hub.appended(applied.appended)

    async def follow(self) -> None:
        """Return when all commits from now on under what the watches follow reach this process's hub."""
        while self._leader is None and not self._closing:
            if self._follower is not None:
                with suppress(Unavailable):
                    await self._follower.follow(self.hub.prefixes())
                    return
            await asyncio.sleep(0.005)  # Until the next writer is found, or is this process.

    # The end

    def statistics(self) -> dict[str, int | float | str]:
        writer = None if self._leader is None else self._leader.writer
        return {
            "role": "writer" if writer is not None else "follower",
            "takeovers": self._takeovers,
            "operations_waiting": len(self._asked) + (0 if writer is None else writer.queued),
            "transactions_total": 0 if writer is None else writer.batches,
            "operations_total": 0 if writer is None else writer.operations,
            "processes": 0 if self._leader is None else len(self._leader.peers) + 1,
            "wal_bytes": _size(self.config.path.with_name(self.config.path.name + "-wal")),
            "file_bytes": _size(self.config.path),
        }

    async def close(self) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._close(), name="coterie-sqlite-close")
        await asyncio.shield(self._ending)  # Half a close would keep the role from the others.

    async def _close(self) -> None:
        if self._asked and self._leader is None:
            self._all_answered = self._loop.create_future()
            try:
                async with asyncio.timeout(self.config.operation_timeout_s):
                    await self._all_answered
            except TimeoutError:
                pass  # Each of them has been told, or is told below.
        self.hub.close()
        await self._drop_role()
        self.reader.close()
        for asked in self._asked.values():
            if not asked.future.done():
                outcome = Outcome.UNKNOWN if asked.sent else Outcome.NOT_APPLIED
                asked.future.set_exception(Unavailable("the engine was closed", outcome=outcome))
        self._asked.clear()

    async def _drop_role(self) -> None:
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._leader is not None:
            await self._leader.close()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._role.close()


def _resolve(future: asyncio.Future[int], result: Result) -> None:
    if not future.done():
        if isinstance(result, Failed):
            future.set_exception(error_of(result))
        else:
            future.set_result(result)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def boot_id() -> str:
    """Return what tells this boot of the machine from others, or "" where that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _refused(error: Exception) -> InvalidConfiguration:
    return InvalidConfiguration(f"the file cannot be shared between processes: {error!r}")


async def open_engine(url: str, *, clock: Clock, entropy: Entropy) -> SqliteEngine:
    """Open the file at `url`, and create it if there is none.

    Raises `InvalidConfiguration` when the URL, the folder or the file cannot be used, `CorruptData`
    when the file is damaged or newer, `Unavailable` when the process that writes it does not answer.
    """
    config = SqliteConfig.from_url(url)
    try:
        engine = SqliteEngine(config, clock, entropy)
        await engine.open()
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidConfiguration(
            f"{config.path} cannot be used: a part of its path is a file, not a folder"
        ) from error
    except OSError as error:
        raise InvalidConfiguration(
            f"{config.path} cannot be used: {error.strerror or error}",
            hint="may this user write in its folder?",
        ) from error
    return engine
