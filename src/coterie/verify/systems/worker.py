"""A process that has an engine open, and does with it what it is asked on its standard input.

python -m coterie.verify.systems.worker PARENT URL

It ends in good order at the end of its input, and at once with the process PARENT.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import msgspec

from ...engines.system import SystemClock, SystemEntropy
from ...errors import CoterieError, Unavailable
from ...lab._linux import die_with_parent
from ...node.engines import open_engine
from ...ports import Engine
from .messages import Answer, Facts, Question, read_question, refusal

__all__ = ["main"]

_MAX_FRAME_BYTES = 64 * 1024 * 1024


class _Worker:
    def __init__(self, engine: Engine, write: asyncio.StreamWriter) -> None:
        self._engine = engine
        self._write = write
        self._asked: set[asyncio.Task[None]] = set()

    async def serve(self, read: asyncio.StreamReader) -> None:
        while True:
            try:
                size = int.from_bytes(await read.readexactly(4), "big")
                question = read_question(await read.readexactly(min(size, _MAX_FRAME_BYTES)))
            except asyncio.IncompleteReadError:
                break
            task = asyncio.create_task(self._answer(question))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
        await asyncio.gather(*self._asked)

    async def _answer(self, question: Question) -> None:
        try:
            answer = Answer(question.number, await self._do(question.method, question.arguments))
        except CoterieError as error:
            answer = refusal(question.number, error)
        data = msgspec.msgpack.encode(answer)
        self._write.write(len(data).to_bytes(4, "big") + data)
        await self._write.drain()

    async def _do(self, method: str, arguments: tuple[Any, ...]) -> Any:
        engine = self._engine
        if engine.store is None:
            raise Unavailable("the engine has no store")
        if method == "facts":
            return Facts(engine.store.guarantees, None if engine.log is None else engine.log.guarantees)
        if method == "role":
            return str(engine.statistics().get("role", ""))
        port, _, name = method.partition(".")
        if name == "scan":
            prefix, after, limit = arguments
            return await engine.store.scan(prefix, after=after, limit=limit)
        if method == "log.read":
            topic, partition, offset, limit = arguments
            assert engine.log is not None  # noqa: S101 - it said that there is one
            return await engine.log.read(topic, partition, offset, limit=limit)
        return await getattr(getattr(engine, port), name)(*arguments)


async def main(url: str) -> None:
    """Open the engine at `url` and serve until the end of the input."""
    loop = asyncio.get_running_loop()
    read = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(read), sys.stdin.buffer)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    engine = await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
    try:
        await _Worker(engine, asyncio.StreamWriter(transport, protocol, None, loop)).serve(read)
    finally:
        await engine.close()


if __name__ == "__main__":
    # Ctrl-C is for who started this; it ends us by the end of our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(int(sys.argv[1]))
    os.set_blocking(sys.stdin.fileno(), False)
    asyncio.run(main(sys.argv[2]))
