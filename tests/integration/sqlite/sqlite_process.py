"""A process that opens the SQLite engine and does what it is told: lines of JSON in, lines of JSON out.

Run as a program it is that process; imported, it offers `Process`, the test's handle of one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from coterie.engines.sqlite import SqliteConfig, SqliteEngine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import CoterieError
from coterie.ports.log import Record
from coterie.ports.store import Check, Commit, Put

__all__ = ["Failure", "Process", "processes"]


class Failure(Exception):
    """A `CoterieError` that the process reported."""

    def __init__(self, code: str, outcome: str, message: str) -> None:
        super().__init__(f"{code} ({outcome}): {message}")
        self.code = code
        self.outcome = outcome


class Process:
    """A process with an engine of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._last = 0
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._batches: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, path: Path | str, *, cwd: Path | None = None, **options: Any) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, str(path), json.dumps(options),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24, cwd=cwd,
        )  # fmt: skip
        self = cls(process)
        try:
            await self.ask("get", "")
        except Failure as failure:
            if failure.code != "invalid_argument":
                await self.kill()
                raise
        return self

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            message = json.loads(line)
            if "batch" in message:
                self._batches[message["watch"]].put_nowait(message["batch"])
                continue
            if message["number"] not in self._asked:
                message["number"] = 1  # It failed to open, before it was asked.
            future = self._asked.pop(message["number"])
            if "error" in message:
                future.set_exception(Failure(*message["error"]))
            else:
                future.set_result(message["result"])
        for future in self._asked.values():
            future.set_exception(ConnectionError("the process has gone"))

    def begin(self, *command: Any) -> asyncio.Future[Any]:
        assert self.process.stdin is not None
        self._last += 1
        future = self._asked[self._last] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps([self._last, *command]).encode() + b"\n")
        return future

    async def ask(self, *command: Any) -> Any:
        async with asyncio.timeout(30):
            return await self.begin(*command)

    async def put(self, key: str, value: str, **options: Any) -> int:
        return int(await self.ask("put", key, value, options))

    async def role(self) -> str:
        return str((await self.ask("statistics"))["role"])

    async def watch(self, prefix: str) -> AsyncIterator[dict[str, Any]]:
        number = self._last + 1
        self._batches[number] = asyncio.Queue()
        self.begin("watch", prefix)
        while True:
            async with asyncio.timeout(30):
                batch = await self._batches[number].get()
            yield batch

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader
        for future in self._asked.values():
            future.exception()  # Looked at: nobody need wait for it.

    async def close(self) -> int:
        """Close the engine in order, and return the exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = await self.process.wait()
        await self._reader
        return status


@asynccontextmanager
async def processes(path: Path | str, count: int) -> AsyncIterator[list[Process]]:
    """Start `count` processes one after the other, so that the first is the writer."""
    started: list[Process] = []
    try:
        for _ in range(count):
            started.append(await Process.start(path))  # noqa: PERF401 - each is killed if the next fails
        yield started
    finally:
        for process in started:
            await process.kill()


class _Program:
    """The process itself."""

    def __init__(self, engine: SqliteEngine) -> None:
        self.engine = engine
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        async for line in reader:
            number, name, *arguments = json.loads(line)
            task = asyncio.create_task(self.answer(number, name, arguments))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        await self.engine.close()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def answer(self, number: int, name: str, arguments: list[Any]) -> None:
        try:
            if name == "watch":
                await self.watch(number, *arguments)
            else:
                emit(number=number, result=await getattr(self, name)(*arguments))
        except CoterieError as error:
            emit(number=number, error=[error.code, error.outcome, str(error)])
        except Exception as error:
            emit(number=number, error=["defect", "", repr(error)])

    async def watch(self, number: int, prefix: str) -> None:
        async with self.engine.store.watch(prefix) as watch:
            async for batch in watch:
                changes = [
                    [change.key, None if change.value is None else change.value.decode(), change.version]
                    for change in batch.changes
                ]
                emit(
                    watch=number,
                    batch={"revision": batch.revision, "snapshot": batch.snapshot, "changes": changes},
                )

    async def get(self, key: str) -> list[Any] | None:
        entry = await self.engine.store.get(key)
        return None if entry is None else [entry.value.decode(), entry.version]

    async def put(self, key: str, value: str, options: dict[str, int]) -> int:
        checks = (Check(key, options["expect"]),) if "expect" in options else ()
        return await self.engine.store.commit(
            Commit((Put(key, value.encode(), options.get("lease", 0)),), checks=checks)
        )

    async def keys(self, prefix: str) -> list[str]:
        found: list[str] = []
        while True:
            page = await self.engine.store.scan(prefix, after=found[-1] if found else "")
            found += [entry.key for entry in page.entries]
            if not page.more:
                return found

    async def burst(self, prefix: str, count: int) -> int:
        await asyncio.gather(*(self.put(f"{prefix}{index}", "", {}) for index in range(count)))
        return count

    async def add_until(self, key: str, limit: int) -> int:
        """Add one to the counter by compare-and-set until it is at `limit`; return how often this one did."""
        mine = 0
        while True:
            entry = await self.engine.store.get(key)
            value, version = (0, 0) if entry is None else (int(entry.value), entry.version)
            if value >= limit:
                return mine
            try:
                await self.put(key, str(value + 1), {"expect": version})
            except CoterieError as error:
                if error.code != "conflict":
                    raise
                await asyncio.sleep(0)
                continue
            mine += 1

    async def grant(self, ttl_s: float) -> int:
        return await self.engine.store.grant(ttl_s)

    async def create(self, topic: str) -> None:
        await self.engine.log.create(topic, 1)

    async def append(self, topic: str, value: str) -> int:
        return await self.engine.log.append(topic, 0, [Record(value.encode())])

    async def wait(self, topic: str, offset: int) -> list[str]:
        await self.engine.log.wait(topic, 0, offset)
        return [
            stored.record.value.decode() for stored in (await self.engine.log.read(topic, 0, offset)).records
        ]

    async def fork(self) -> int:
        """Return the id of a child that does nothing for a minute."""
        child = os.fork()
        if child == 0:
            os.close(1)  # The test waits for the end of what the parent says.
            time.sleep(60)
            os._exit(0)
        return child

    async def statistics(self) -> dict[str, Any]:
        return self.engine.statistics()


def emit(**message: Any) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


async def main() -> int:
    path, options = sys.argv[1], json.loads(sys.argv[2])
    engine = SqliteEngine(SqliteConfig(path=Path(path), **options), SystemClock(), SystemEntropy())
    try:
        await engine.open()
    except CoterieError as error:
        emit(number=0, error=[error.code, error.outcome, str(error)])
        return 1
    await _Program(engine).run()
    return 0


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        sys.exit(asyncio.run(main()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main()))
