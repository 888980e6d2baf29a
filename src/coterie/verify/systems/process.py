"""Asks a process that has an engine open, as if the engine were here."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from ...errors import Outcome, Unavailable
from ...ports import Log, LogGuarantees, Store, StoreGuarantees
from ...ports.log import Bounds, Record, Segment
from ...ports.store import Commit, Entry, Page, Watch
from .messages import METHODS, Answer, Facts, Question, error_of, read_answer

__all__ = ["Process"]

_ANSWER_S = 8.0
"""Longer than the engine's own limit: only a process that was stopped takes so long."""
_START_S = 20.0
_STOP_S = 10.0


class Process:
    """A process on the engine at `url`; `Engine`, for as long as it runs, and again after a new start."""

    name = "process"

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self.state: str = "stopped"
        """`starting`, `running`, `paused`, `stopping` or `stopped`."""
        self.facts: Facts | None = None

    async def start(self) -> None:
        """Start it, and wait until its engine is open."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "coterie.verify.systems.worker", str(os.getpid()), self._url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._process, self.state = process, "starting"
        self._reader = asyncio.create_task(self._read(process))
        try:
            self.facts = await self._ask(process, "facts", (), _START_S)
        except BaseException:
            await self.kill()
            raise
        self.state = "running"
        self.store: Store = _Store(self, self.facts.store)
        self.log: Log | None = None if self.facts.log is None else _Log(self, self.facts.log)

    async def stop(self) -> None:
        """End it in good order, or kill it if it takes too long."""
        if self._process is not None and self._process.stdin is not None:
            self.resume()
            self.state = "stopping"
            self._process.stdin.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_S)
        await self.kill()

    async def kill(self) -> None:
        """Kill it by SIGKILL, and wait until it is gone."""
        process, reader = self._process, self._reader
        self._process, self._reader, self.state = None, None, "stopped"
        if process is not None and reader is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await reader

    def pause(self) -> None:
        """Stop it by SIGSTOP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.state = "paused"

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None and self.state == "paused":
            self._process.send_signal(signal.SIGCONT)
            self.state = "running"

    async def ask(self, method: str, *arguments: Any, within_s: float = _ANSWER_S) -> Any:
        """Return what it answers. Raises what it raised, and `Unavailable` if it does not answer."""
        process = self._process
        if process is None or self.state not in {"running", "paused"}:
            raise Unavailable(f"the process is {self.state}", outcome=Outcome.NOT_APPLIED)
        return await self._ask(process, method, arguments, within_s)

    async def _ask(
        self, process: asyncio.subprocess.Process, method: str, arguments: tuple[Any, ...], within_s: float
    ) -> Any:
        if process.stdin is None or process.stdin.is_closing():
            raise Unavailable("the process has ended", outcome=Outcome.NOT_APPLIED)
        number = next(self._numbers)
        data = msgspec.msgpack.encode(Question(number, method, arguments))
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(len(data).to_bytes(4, "big") + data)
            answer = await asyncio.wait_for(waiting, within_s)
        except TimeoutError:
            raise Unavailable(f"the process did not answer within {within_s:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if answer.code:
            raise error_of(answer)
        return msgspec.convert(answer.result, METHODS[method][1])

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await process.stdout.readexactly(4), "big")
                answer = read_answer(await process.stdout.readexactly(size))
                waiting = self._waiting.get(answer.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        if process.stdin is not None:
            process.stdin.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unavailable("the process ended"))

    def statistics(self) -> dict[str, int | float | str]:
        return {"state": self.state}

    async def close(self) -> None:
        """Nothing: the system ends its processes, which outlive their clients."""


class _Store:
    """`Store` in another process."""

    def __init__(self, process: Process, guarantees: StoreGuarantees) -> None:
        self._ask = process.ask
        self.guarantees = guarantees

    async def get(self, key: str) -> Entry | None:
        found: Entry | None = await self._ask("store.get", key)
        return found

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        page: Page = await self._ask("store.scan", prefix, after, limit)
        return page

    async def commit(self, commit: Commit) -> int:
        return int(await self._ask("store.commit", commit))

    async def grant(self, ttl_s: float) -> int:
        return int(await self._ask("store.grant", ttl_s))

    async def renew(self, lease: int) -> None:
        await self._ask("store.renew", lease)

    async def revoke(self, lease: int) -> None:
        await self._ask("store.revoke", lease)

    def watch(self, prefix: str) -> Watch:
        raise Unavailable("watches are not passed on to another process", outcome=Outcome.NOT_APPLIED)

    async def close(self) -> None:
        return


class _Log:
    """`Log` in another process."""

    def __init__(self, process: Process, guarantees: LogGuarantees) -> None:
        self._ask = process.ask
        self.guarantees = guarantees

    async def create(self, topic: str, partitions: int) -> None:
        await self._ask("log.create", topic, partitions)

    async def topics(self) -> dict[str, int]:
        raise Unavailable("topics are not passed on to another process", outcome=Outcome.NOT_APPLIED)

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return int(await self._ask("log.append", topic, partition, list(records)))

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        segment: Segment = await self._ask("log.read", topic, partition, offset, limit)
        return segment

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        raise Unavailable("waiting is not passed on to another process", outcome=Outcome.NOT_APPLIED)

    async def bounds(self, topic: str, partition: int) -> Bounds:
        bounds: Bounds = await self._ask("log.bounds", topic, partition)
        return bounds

    async def trim(self, topic: str, partition: int, before: int) -> None:
        raise Unavailable("trimming is not passed on to another process", outcome=Outcome.NOT_APPLIED)

    async def delete(self, topic: str) -> None:
        await self._ask("log.delete", topic)

    async def close(self) -> None:
        return
