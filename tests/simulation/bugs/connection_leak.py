"""Connection leak: a request is cancelled while it holds a connection, which never gets back to the pool.

What goes wrong: the connection is given back on the line after the query. A timeout cancels the query, and
that line is never reached. Each slow moment of the database costs a connection; after the last one
everybody waits for ever, with a healthy database.

Textbook: resource leak on cancellation (Smith, Notes on structured concurrency, 2018).

Repair: give it back in a `finally`, and close it there, since an answer may still be on its way in it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from bug_kit import PORT, ask, serve, weather

from coterie.simulation import Violation, World

SIZE = 3


class Connection:
    """A place in the pool; connects when it is used for the first time, or again after `close`."""

    def __init__(self) -> None:
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def query(self, text: str) -> str:
        if self.streams is None:
            self.streams = await asyncio.open_connection("database", PORT)
        reader, writer = self.streams
        writer.write(f'"{text}"\n'.encode())
        line = await reader.readline()
        if not line:
            raise ConnectionError("the database has closed the connection")
        return line.decode()

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


Pool = asyncio.Queue[Connection]


async def query_and_give_back(pool: Pool, text: str) -> str:
    connection = await pool.get()
    try:
        answer = await connection.query(text)
    except OSError:
        connection.close()
        pool.put_nowait(connection)
        raise
    pool.put_nowait(connection)
    return answer


async def query_and_always_give_back(pool: Pool, text: str) -> str:
    connection = await pool.get()
    try:
        answer = await connection.query(text)
    except BaseException:
        connection.close()
        raise
    finally:
        pool.put_nowait(connection)
    return answer


async def play(world: World, query: Callable[[Pool, str], Coroutine[Any, Any, str]]) -> None:
    async def echo(text: Any) -> Any:
        return text

    async def handle(pool: Pool, text: str) -> bool:
        try:
            async with asyncio.timeout(1.0):
                return text in await query(pool, text)
        except OSError:
            return False

    async def run_web_server() -> None:
        pool: Pool = asyncio.Queue()
        for _ in range(SIZE):
            pool.put_nowait(Connection())

        async def load() -> None:
            while True:
                await asyncio.sleep(random.uniform(0.2, 1.0))
                await handle(pool, f"{random.random()}")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(load())
            await serve(lambda text: handle(pool, text))

    await world.start("database", lambda: serve(echo))
    await world.start("web", run_web_server)
    await weather(world, 20.0)
    answers = [await ask("web", f"question {number}", timeout_s=5.0) for number in range(3)]
    if not all(answers):
        sentence = "the faults are over and the database is well, but the web server answers nobody"
        raise Violation(sentence, promise="what was taken is given back")


async def broken(world: World) -> None:
    await play(world, query_and_give_back)


async def repaired(world: World) -> None:
    await play(world, query_and_always_give_back)
