"""A process that writes without end, and notes in a journal of its own what was acknowledged.

Run by `crash_driver`. A line of the journal is a JSON list: `["i", id]` before an operation, and
after it `["a", kind, ...]` with what was answered; `["!", text]` is a broken promise. Each is one
`write`, done before the next operation, so what is in the journal outlives SIGKILL.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from coterie.engines.sqlite import SqliteEngine, open_engine
from coterie.engines.sqlite.batch import Applier
from coterie.engines.sqlite.sessions import SessionLog
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import Conflict
from coterie.ports.log import Record
from coterie.ports.store import ABSENT, Check, Commit, Put

COUNTER = "counter"
TOPIC = "topic"
WRITERS = 6


class Worker:
    def __init__(self, engine: SqliteEngine, name: str, journal: int) -> None:
        self.store = engine.store
        self.log = engine.log
        self.name = name
        self.journal = journal

    def note(self, *line: Any) -> None:
        os.write(self.journal, json.dumps(line).encode() + b"\n")

    async def run(self) -> None:
        await self.log.create(TOPIC, 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch())
            group.create_task(self.count())
            for index in range(WRITERS):
                group.create_task((self.put if index % 2 else self.append)(f"{self.name}.{index}"))

    async def put(self, prefix: str) -> None:
        """Write keys that nobody else writes, and each once: a conflict means that one was applied twice."""
        last, number = 0, 0
        while True:
            number += 1
            key = f"unique/{prefix}.{number}"
            self.note("i", key)
            try:
                revision = await self.store.commit(Commit((Put(key, b"x"),), checks=(Check(key, ABSENT),)))
            except Conflict as error:
                self.note("!", f"applied twice: {error}")
                continue
            self.note("a", "put", key, revision)
            if revision <= last:
                self.note("!", f"{key} has revision {revision} after {last}")
            last = revision

    async def append(self, prefix: str) -> None:
        number = 0
        while True:
            number += 1
            id_ = f"record/{prefix}.{number}"
            self.note("i", id_)
            offset = await self.log.append(TOPIC, 0, [Record(id_.encode())])
            self.note("a", "append", id_, offset)

    async def count(self) -> None:
        """Add one to the counter by compare-and-set, as all processes do."""
        last = 0
        while True:
            entry = await self.store.get(COUNTER)
            value, version = (0, ABSENT) if entry is None else (int(entry.value), entry.version)
            if version < last:
                self.note("!", f"version {version} of the counter was read after {last}")
            self.note("i", f"count/{value + 1}")
            try:
                last = await self.store.commit(
                    Commit((Put(COUNTER, b"%d" % (value + 1)),), checks=(Check(COUNTER, version),))
                )
            except Conflict:
                self.note("r", f"count/{value + 1}")
                last = version
                await asyncio.sleep(0)
            else:
                self.note("a", "count", value + 1, last)

    async def watch(self) -> None:
        """The counter rises by one a commit, so that a watch that leaves one out is seen to do so."""
        value = version = 0
        async with self.store.watch(COUNTER) as watch:
            async for batch in watch:
                for change in batch.changes:
                    now = int(change.value or b"0")
                    if change.version < version or now < value:
                        self.note("!", f"a watch saw {now} at {change.version} after {value} at {version}")
                    elif not batch.snapshot and now != value + 1:
                        self.note("!", f"a watch saw {now} after {value} and nothing between")
                    value, version = now, change.version


def acknowledge_early() -> None:
    """The mutant: a transaction is committed when the next one begins, long after its acknowledgement."""
    begin = Applier.__init__

    def init(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        execute, pending = self._execute, False

        def late(statement: str, *values: Any) -> Any:
            nonlocal pending
            if statement == "COMMIT":
                pending = True
                return None
            if statement == "BEGIN IMMEDIATE" and pending:
                execute("COMMIT")
            return execute(statement, *values)

        self._execute = late

    Applier.__init__ = init  # type: ignore[method-assign]


def forget_sessions() -> None:
    """The mutant: nothing of what was answered is stored with the operations."""
    SessionLog.prepare = lambda *_: []  # type: ignore[method-assign]


MUTANTS = {"none": lambda: None, "acknowledge_early": acknowledge_early, "forget_sessions": forget_sessions}


async def main(path: str, name: str, journal: str, mutant: str) -> None:
    MUTANTS[mutant]()
    engine = await open_engine(f"sqlite:///{path}", clock=SystemClock(), entropy=SystemEntropy())
    descriptor = os.open(Path(journal), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    await Worker(engine, name, descriptor).run()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(*sys.argv[1:]))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(*sys.argv[1:]))
