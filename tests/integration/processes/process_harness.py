"""Real `coterie` processes, with bounds on every wait."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

COTERIE = (sys.executable, "-m", "coterie")
SAMPLE = Path(__file__).with_name("process_sample.py")
PATIENCE_S = 30.0
"""How long a test waits for what must happen: generous, since a slow machine is no bug."""


class Coterie:
    """A `coterie` command that runs: its events as they come, its signals, its end."""

    def __init__(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._errors = folder / f"stderr-{time.monotonic_ns()}"
        self._queue: queue.Queue[str | None] = queue.Queue()
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                (*COTERIE, *words),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=clean_environment(folder, environment),
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return self._errors.read_text()

    def wait_event(self, kind: str, **facts: Any) -> dict[str, Any]:
        """Return the next event of that kind and with those facts; it fails when the output ends first."""
        return self.wait_until(lambda event: event.get("event") == kind and facts.items() <= event.items())

    def wait_until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the next event of which the condition holds."""
        for line in self._coming():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    self.events.append(event)
                    if condition(event):
                        return event
        raise AssertionError("lines come until it fails")

    def wait_line(self, beginning: str) -> str:
        """Return the next line that begins so, without the end of the line."""
        return next(line for line in self._coming() if line.startswith(beginning)).rstrip("\n")

    def _coming(self) -> Iterator[str]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            if line is None:
                raise AssertionError(f"it ended before that; it printed {self.lines} and {self.stderr}")
            self.lines.append(line)
            yield line

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
            with contextlib.suppress(ValueError):
                self.events.append(json.loads(line))
        return code

    def kill(self) -> None:
        """End it as a crash would."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Leave nothing running, nor open."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


def clean_environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this environment without settings, with TRACE in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COTERIE_")}
    return {**kept, "TRACE": str(folder / "trace"), "PYTHONUNBUFFERED": "1", **(more or {})}


def command(
    *words: str, folder: Path, environment: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        (*COTERIE, *words),
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=clean_environment(folder, environment),
    )


def traces(folder: Path) -> list[str]:
    """Return what the program has traced."""
    path = folder / "trace"
    return path.read_text().splitlines() if path.exists() else []


def alive(pid: int) -> bool:
    """Return whether a process runs that is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self/stat").exists()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; fail when that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
