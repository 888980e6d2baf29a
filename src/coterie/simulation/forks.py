"""Universes in forked processes: isolated from each other, several at once, ended when they hang."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from . import ambient
from .universe import Request, Result, Scenario, Settings, Verdict, run_universe

__all__ = ["explore", "run_forked"]

_OUTPUT_BYTES = 64 * 1024


@dataclass(slots=True)
class _Child:
    pid: int
    request: Request
    pipe: int
    output: Any
    deadline_s: float
    received: bytearray


def run_forked(scenario: Scenario, request: Request, settings: Settings | None = None) -> Result:
    """Run one universe in a forked process."""
    (result,) = explore(scenario, [request], settings)
    return result


def explore(
    scenario: Scenario, requests: Iterable[Request], settings: Settings | None = None, *, jobs: int = 1
) -> Iterator[Result]:
    """Run universes in forked processes, `jobs` at a time; yield their results as they come.

    Closing the iterator ends what is under way.
    """
    settings = settings or Settings()
    waiting = iter(requests)
    children: dict[int, _Child] = {}
    # What is put in place here is inherited, so that no universe has to do it again.
    with ambient.installed(), selectors.DefaultSelector() as selector:
        try:
            while True:
                while len(children) < jobs and (request := next(waiting, None)) is not None:
                    child = _fork(scenario, request, settings)
                    children[child.pipe] = child
                    selector.register(child.pipe, selectors.EVENT_READ)
                if not children:
                    return
                yield from _collect(children, selector)
        finally:
            for child in children.values():
                os.kill(child.pid, signal.SIGKILL)
                _reap(child)
                child.output.close()


def _collect(children: dict[int, _Child], selector: selectors.BaseSelector) -> Iterator[Result]:
    """Yield the results of the children that have ended, after a wait for any of them."""
    now = time.monotonic()
    wait_s = max(0.0, min(child.deadline_s for child in children.values()) - now)
    finished: list[_Child] = []
    for key, _ in selector.select(wait_s):
        child = children[key.fd]
        data = os.read(key.fd, 1 << 20)
        if data:
            child.received += data
        else:
            finished.append(child)
    now = time.monotonic()
    hung = [each for each in children.values() if each.deadline_s <= now and each not in finished]
    for child in hung:
        os.kill(child.pid, signal.SIGKILL)
    for child in finished + hung:
        selector.unregister(child.pipe)
        del children[child.pipe]
        yield _result(child, hung=child in hung)


def _fork(scenario: Scenario, request: Request, settings: Settings) -> _Child:
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    output = tempfile.TemporaryFile()  # noqa: SIM115 - the parent reads it when the child has ended
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            _redirect(output.fileno())
            gc.freeze()
            _child(scenario, request, settings, writing)
            status = 0
        finally:
            # Not `sys.exit`: nothing of the parent's, such as its exit handlers, is to run here.
            os._exit(status)
    os.close(writing)
    deadline_s = time.monotonic() + settings.timeout_s
    return _Child(pid, request, reading, output, deadline_s, bytearray())


def _redirect(descriptor: int) -> None:
    """Let everything that is printed go to `descriptor`, whatever `sys.stdout` was exchanged for."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(descriptor, number)
        setattr(sys, name, os.fdopen(number, "w", errors="backslashreplace", closefd=False))


def _child(scenario: Scenario, request: Request, settings: Settings, pipe: int) -> None:
    result = run_universe(scenario, request, settings)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    try:
        data = pickle.dumps(result)
    except Exception:  # noqa: BLE001 - whatever the scenario has returned
        data = pickle.dumps(replace(result, value=None))
    view = memoryview(data)
    while view:
        view = view[os.write(pipe, view) :]


def _reap(child: _Child) -> int:
    os.close(child.pipe)
    return os.waitpid(child.pid, 0)[1]


def _result(child: _Child, *, hung: bool) -> Result:
    status = _reap(child)
    with child.output as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _OUTPUT_BYTES))
        output = file.read().decode(errors="replace")
    if child.received and not hung:
        result: Result = pickle.loads(child.received)  # noqa: S301 - from our own child
        return replace(result, output=output)
    if hung:
        message = "the universe did not end in time: something computes or blocks without end"
    else:
        message = f"the process of the universe died with status {status}"
    request = child.request
    return Result(
        seed=request.seed,
        edits=request.edits,
        verdict=Verdict.CRASHED,
        message=message,
        promise="hung" if hung else "died",
        output=output,
    )
