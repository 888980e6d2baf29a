"""What the programs of this folder share: requests as JSON lines, storms, and the judgement of a history."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from coterie.history import Recorder, check
from coterie.simulation import Inconclusive, Violation, World

PORT = 80


class NoAnswer(Exception):
    """Nobody knows what became of the request: it was lost, or its answer was."""


async def serve(answer: Callable[[Any], Awaitable[Any]]) -> None:
    """Answer requests for ever; `answer` gets what was asked and returns what to reply."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (line := await reader.readline()).endswith(b"\n"):
                writer.write(json.dumps(await answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except OSError:
            pass  # The client is gone, or the disk is; either way it gets no answer.
        finally:
            writer.close()

    await (await asyncio.start_server(converse, port=PORT)).serve_forever()


async def ask(host: str, request: Any, *, timeout_s: float = 1.0) -> Any:
    """Return the answer of a server; raise `NoAnswer` when none comes within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, PORT)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
    except OSError as error:  # TimeoutError is one.
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    if not line.endswith(b"\n"):
        raise NoAnswer("the connection was closed")
    return json.loads(line)


def me() -> str:
    """Return the name of this process in a history; a restarted program is another process."""
    return f"{socket.gethostname()}/{os.getpid()}"


def recorder_of(world: World) -> Recorder:
    """Return a recorder that goes by true time."""
    return Recorder(lambda: round(world.time * 1e9))


async def weather(world: World, duration_s: float) -> None:
    """Let faults of all classes happen to all hosts for `duration_s`, then let the dust settle."""
    async with world.storm(duration_s):
        await asyncio.sleep(duration_s)
    await asyncio.sleep(5.0)


def judge(recorder: Recorder, model: str, **options: Any) -> None:
    """Raise `Violation` with the checker's witness unless the history keeps what `model` promises."""
    verdict = check(recorder.history, model, **options)
    if verdict.status == "violated":
        raise Violation(verdict.sentence, promise=model, witness=str(verdict))
    if not verdict.ok:
        raise Inconclusive(verdict.sentence)
