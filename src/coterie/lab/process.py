"""A handle on the keeper, the process that owns what a cluster consists of."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import Outcome
from .errors import LabError

__all__ = ["KeeperHandle", "tail"]

_END_S = 10.0
_CALL_S = 30.0


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return f"(no log at {log})"
    kept = text.splitlines()[-lines:]
    return "\n".join([f"--- the end of {log}", *kept]) if kept else f"(the log {log} is empty)"


class KeeperHandle:
    """Starts a keeper and speaks to it. Not thread-safe; it belongs to one event loop."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._exited: dict[str, int] = {}
        self._changed = asyncio.Condition()

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        assert self._process is not None  # noqa: S101 - `start` comes first
        return self._process.pid

    async def start(self) -> None:
        """Start the keeper."""
        # A session of its own: Ctrl-C on the terminal must not reach it before the caller can clean up.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "coterie.lab.keeper",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            limit=1 << 20,
        )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if "exited" in message:
                self._exited[message["exited"]] = message["code"]
                async with self._changed:
                    self._changed.notify_all()
            elif (future := self._waiting.pop(message.get("id"), None)) is not None and not future.done():
                if "error" in message:
                    future.set_exception(LabError(message["error"]))
                else:
                    future.set_result(message["value"])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LabError("the cluster ended meanwhile", outcome=Outcome.UNKNOWN))

    async def call(self, operation: str, *, within_s: float = _CALL_S, **arguments: Any) -> Any:
        """Have the keeper do `operation` and return what it answers.

        Raises:
            LabError: it failed, took longer than `within_s`, or the keeper is gone.
        """
        if self._process is None or self._reading is None or self._reading.done():
            raise LabError("the cluster is not running", hint="use it inside `async with lab.start(...)`")
        assert self._process.stdin is not None  # noqa: S101
        identity = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[identity] = future
        request = {"id": identity, "op": operation, **arguments}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        try:
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            raise LabError(
                f"{operation!r} took longer than {within_s:g} s", outcome=Outcome.UNKNOWN
            ) from None
        finally:
            self._waiting.pop(identity, None)

    async def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        host: str | None = None,
        shed_root: bool = False,
    ) -> int:
        """Start a member and return its process id. Its output is appended to `log`."""
        self._exited.pop(name, None)
        how: dict[str, Any] = {"argv": list(argv), "log": str(log), "env": dict(env or {}), "host": host}
        return int(await self.call("spawn", name=name, shed_root=shed_root, **how))

    async def run(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        host: str | None = None,
        shed_root: bool = False,
        within_s: float = 60.0,
    ) -> None:
        """Run a program to its end, its output appended to `log`.

        Raises:
            LabError: it ended with another code than 0, or not in time; the message shows its output.
        """
        how: dict[str, Any] = {"argv": list(argv), "log": str(log), "env": dict(env or {}), "host": host}
        try:
            code = await self.call(
                "run", within_s=within_s + 5.0, timeout_s=within_s, shed_root=shed_root, **how
            )
        except LabError as error:
            raise LabError(f"{Path(argv[0]).name}: {error.message}\n{tail(log)}") from error
        if code != 0:
            raise LabError(f"{Path(argv[0]).name} failed with {code}\n{tail(log)}")

    def exit_code(self, name: str) -> int | None:
        """Return how a member that does not run ended; negative for a signal; None while it runs."""
        return self._exited.get(name)

    async def wait_exit(self, name: str) -> int:
        """Wait until a member has ended and return its exit code."""
        async with self._changed:
            await self._changed.wait_for(lambda: name in self._exited)
        return self._exited[name]

    async def stop_member(self, name: str, number: signal.Signals, within_s: float) -> None:
        """Stop a member by a signal, and kill it if it does not end in time."""
        await self.call("terminate", name=name, number=int(number))
        try:
            async with asyncio.timeout(within_s):
                await self.wait_exit(name)
        except TimeoutError:
            await self.call("destroy", name=name)

    async def end(self) -> None:
        """End all that the keeper keeps, and the keeper."""
        if self._process is None or self._reading is None:
            return
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()  # the kernel ends the members
            await self._process.wait()
        await self._reading
