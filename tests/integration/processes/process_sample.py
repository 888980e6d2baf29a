"""The program that the tests of processes run: each call leaves a trace in a file before it answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from coterie import App, CoterieError, Outcome

app = App("sample")
counts = app.map("counts", int)


@app.error(status=409)
class Refused(CoterieError):
    """It was refused, and nothing happened."""

    default_outcome = Outcome.NOT_APPLIED


def trace(line: str) -> None:
    """Append a line to the file that TRACE names: whole, also when many processes do so."""
    descriptor = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@app.service
class Work:
    """Does nothing much, but leaves traces."""

    async def do(self, mark: str, seconds: float = 0.0) -> int:
        """Trace `mark`, take some time, and return the process that did it."""
        trace(mark)
        await asyncio.sleep(seconds)
        return os.getpid()

    async def hold(self, mark: str) -> None:
        """Trace `mark` and never answer."""
        trace(mark)
        await asyncio.Event().wait()

    async def count(self, key: str) -> int:
        """Add one to the counter and return it."""
        return await counts.update(key, lambda n: n + 1, default=0)

    async def numbers(self, to: int) -> AsyncIterator[int]:
        """Stream numbers."""
        for number in range(to):
            yield number

    async def refuse(self) -> None:
        """Raise an error that is declared."""
        raise Refused("not today")

    async def fail(self) -> None:
        """Raise an error that is not."""
        raise ZeroDivisionError("a mistake")

    async def say(self, text: str) -> None:
        """Print, as programs do."""
        print(text, flush=True)

    async def die(self) -> None:
        """End the process at once."""
        os._exit(9)


work = app.client(Work)
