"""Node processes as their parent sees them: started, watched, and started again when they die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Child", "Restarts", "Supervisor", "node_arguments"]

_LONGEST_LINE = 64 * 1024
_WRONG = 2
"""The exit code of a node whose configuration or program is wrong."""


class Restarts:
    """Decides whether a node that died is started again, and when. Pure: times are given.

    The wait doubles with each death, so that a node that cannot run does not keep the machine busy.
    It is given up when it has died `limit` times within `within_s`, and at once when it says that its
    configuration is wrong before it was ever ready: that does not mend itself.
    """

    def __init__(
        self, *, limit: int = 5, within_s: float = 60.0, first_s: float = 0.2, longest_s: float = 5.0
    ) -> None:
        self._limit = limit
        self._within_s = within_s
        self._first_s = first_s
        self._longest_s = longest_s
        self._deaths: deque[float] = deque(maxlen=limit)

    def died(self, now: float, *, code: int, was_ready: bool) -> float | None:
        """Return after how many seconds to start it again, or None to give it up."""
        if code == _WRONG and not was_ready:
            return None
        self._deaths.append(now)
        recent = sum(now - at <= self._within_s for at in self._deaths)
        if recent >= self._limit:
            return None
        return float(min(self._longest_s, self._first_s * 2 ** (recent - 1)))


@dataclass(kw_only=True)
class Child:
    """One node process, as far as its parent knows."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    restarts: Restarts = field(default_factory=Restarts)
    state: str = "starting"
    pid: int = 0
    url: str = ""
    starts: int = 0
    was_ready: bool = False
    problem: str = ""
    """Why it died, as far as it said so."""
    process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def send(self, number: int) -> None:
        if self.running and self.process is not None:
            with suppress(ProcessLookupError):  # It ended this very moment.
                self.process.send_signal(number)


_HURRY = 2
"""Which signal tells a node to hurry."""

Show = Callable[..., None]
"""`show(child, event, **facts)`: something happened to a node."""
Note = Callable[[Child, str], None]
"""`note(child, text)`: the program printed a line."""


class Supervisor:
    """Keeps `children` running until `stop`.

    One that has not ended when its `drain_s` and another `grace_s` are over is killed: it may be stopped, or
    its event loop blocked, and would never end.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        restart: bool,
        show: Show,
        note: Note,
        drain_s: float = 30.0,
        grace_s: float = 20.0,
    ) -> None:
        self._children = children
        self._drain_s = drain_s
        self._grace_s = grace_s
        self._asked = 0
        self._restart = restart
        self._show = self._until_they_leave(show)
        self._note = self._until_they_leave(note)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Tell every node to drain; said again, to hurry; said a third time, kill them."""
        self._stopping.set()
        self._asked += 1
        if self._asked > _HURRY:
            self._kill()
            return
        for child in self._children:
            child.send(signal.SIGTERM)
        wait_s = self._grace_s + (self._drain_s if self._asked < _HURRY else 0.0)
        asyncio.get_running_loop().call_later(wait_s, self._kill)

    def _kill(self) -> None:
        for child in self._children:
            child.send(signal.SIGKILL)

    async def run(self) -> list[Child]:
        """Run until all have ended, and return those that were given up."""
        tasks = [asyncio.create_task(self._keep(child)) for child in self._children]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._kill()
        return [child for child in self._children if child.state == "given up"]

    def _until_they_leave(self, tell: Callable[..., None]) -> Callable[..., None]:
        def told(*arguments: Any, **facts: Any) -> None:
            try:
                tell(*arguments, **facts)
            except OSError:
                # Nobody reads this any more, as after `up | head`: end like any other part of a pipe.
                if not self._stopping.is_set():
                    self.stop()

        return told

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            code = await self._run_once(child)
            if self._stopping.is_set():
                child.state = "stopped"
                killed = {"reason": _reason(code)} if code == -signal.SIGKILL else {}
                self._show(child, "stopped", code=code, **killed)
                return
            child.state = "dead"
            child.problem = child.problem or _reason(code)
            self._show(child, "died", code=code, reason=child.problem)
            wait_s = child.restarts.died(loop.time(), code=code, was_ready=child.was_ready)
            if wait_s is None or not self._restart:
                child.state = "given up"
                self._show(child, "given up", reason=child.problem)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
        child.state = "stopped"

    async def _run_once(self, child: Child) -> int:
        child.state, child.url, child.problem = "starting", "", ""
        child.starts += 1
        # A session of its own: Ctrl-C in the terminal reaches the parent only, which drains the nodes. A
        # pipe as its input: when the parent dies, however it dies, the pipe ends and so does the node.
        child.process = process = await asyncio.create_subprocess_exec(
            *child.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **child.environment},
            start_new_session=True,
        )
        child.pid = process.pid
        self._show(child, "starting")
        if self._stopping.is_set():  # Told to stop while it was being made.
            child.send(signal.SIGTERM)
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - asked for
        await asyncio.gather(
            self._listen(child, process.stdout), self._listen(child, process.stderr), process.wait()
        )
        return process.returncode if process.returncode is not None else -1

    async def _listen(self, child: Child, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            event = _event(child, line)
            if event is None:
                self._note(child, line.decode(errors="replace"))
            elif "error" in event:
                error = event["error"]
                child.problem = error.get("message", "")
                self._show(child, "error", **error)
            elif event["event"] != "stopped":  # That is shown when the process has ended.
                child.state = event["event"]
                child.url = event.get("http", child.url)
                child.was_ready = child.was_ready or child.state == "ready"
                facts = {key: event[key] for key in ("id", "http", "wire") if key in event}
                self._show(child, child.state, **facts)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Iterate over the lines of `stream`; one that is too long comes in pieces."""
    rest = b""
    while chunk := await stream.read(_LONGEST_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
        if len(rest) >= _LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest


def _event(child: Child, line: bytes) -> dict[str, Any] | None:
    """Return what `coterie run --json` tells, or None when the line is the program's own.

    Programs print JSON as well, and many a logger calls its message `event`.
    """
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    ours = isinstance(event.get("event"), str) and (event.get("node"), event.get("pid")) == (
        child.name,
        child.pid,
    )
    failed = event.keys() == {"error"} and isinstance(event["error"], dict) and "outcome" in event["error"]
    return event if ours or failed else None


def _reason(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"


def node_arguments(target: str, name: str, http: str, listen: str) -> Sequence[str]:
    """Return the command of one node."""
    options = ("--name", name, "--http", http, "--listen", listen, "--json", "--until-eof")
    return (sys.executable, "-m", "coterie", "run", *options, "--", target)
