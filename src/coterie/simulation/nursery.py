"""A process with a pinned hash seed, out of which universes are forked.

The iteration order of sets of str depends on PYTHONHASHSEED, which is fixed when an interpreter
starts. So the universes that must be repeatable elsewhere are forked from a fresh interpreter, in
which it is 0, the time zone is UTC, and, where the kernel allows it, addresses are not randomized.

    target = Target("shop_test.py:scenario")
    for result in explore_pinned(target, [Request(seed=seed) for seed in range(500)], jobs=2): ...

`main`, in the fresh interpreter, reads a pickled order from its standard input and writes pickled
results, each after its length, to its standard output.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from ..errors import InvalidArgument
from .ambient import Substitutes
from .errors import SimulationError
from .forks import explore
from .universe import Request, Result, Scenario, Settings

__all__ = ["Nursery", "Target", "explore_pinned", "main", "run_pinned"]

_LENGTH = struct.Struct(">Q")
_NO_RANDOM_ADDRESSES = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a scenario is found: `module:name` or `path/to/file.py:name`.

    With `arguments` the name is that of a function which is called with them (they are pickled) and
    returns the scenario.
    """

    name: str
    arguments: tuple[Any, ...] | None = None
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    """What `sys.path` is to be."""

    def resolve(self) -> Scenario:
        """Import the scenario; raise `InvalidArgument` when there is none."""
        place, colon, name = self.name.rpartition(":")
        if not colon:
            raise InvalidArgument(f"a scenario is named as module:name or file.py:name, not {self.name!r}")
        try:
            module = _module_of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
            found: Any = module
            for part in name.split("."):
                found = getattr(found, part)
        except (AttributeError, ImportError, FileNotFoundError) as error:
            raise InvalidArgument(f"{self.name!r} cannot be found: {error}") from error
        scenario: Scenario = found if self.arguments is None else found(*self.arguments)
        return scenario


def _module_of_file(path: Path) -> Any:
    """Import a file under its own name, as `python file.py` would find its neighbours."""
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path.resolve()):
        return loaded
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def explore_pinned(
    target: Target, requests: Iterable[Request], settings: Settings | None = None, *, jobs: int = 1
) -> Iterator[Result]:
    """Run universes of `target` out of a nursery; yield their results as they come.

    Closing the iterator ends what is under way. Raises `SimulationError` when the nursery fails.
    """
    process = _start(target)
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
    try:
        with process.stdin:
            process.stdin.write(pickle.dumps((target, list(requests), settings or Settings(), jobs)))
        while True:
            found = _read(process.stdout)
            if found is None:
                break
            if isinstance(found, Exception):
                raise found
            yield found
        if process.wait() != 0:
            raise SimulationError(f"the process that runs the universes ended with {process.returncode}")
    finally:
        _end(process)


class Nursery:
    """Runs universes of one target one at a time, without a new interpreter for each.

    with Nursery(target) as nursery:
        result = nursery.run(Request(seed=7))
    """

    def __init__(self, target: Target, settings: Settings | None = None) -> None:
        self._target = target
        self._settings = settings or Settings()

    def __enter__(self) -> Self:
        self._process = _start(self._target)
        self._send((self._target, None, self._settings, 1))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        _end(self._process)

    def run(self, request: Request) -> Result:
        """Run one universe. Raises what `Target.resolve` does, and `SimulationError` if the nursery fails."""
        self._send(request)
        found = _read(self._process.stdout)
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise SimulationError(f"the process that runs the universes ended with {self._process.wait()}")
        result: Result = found
        return result

    def _send(self, what: object) -> None:
        # If the nursery is gone, why is found where its answer is read.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(pickle.dumps(what))
            self._process.stdin.flush()


def _start(target: Target) -> Any:
    """Start a nursery. It has a process group of its own, so that Ctrl-C is left to its parent."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in target.path if path)
    command = [sys.executable, *_warning_options(), "-c", f"from {__name__} import main; main()"]
    return subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, process_group=0
    )


def _end(process: Any) -> None:
    """End a nursery, and the universes that still run in it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    # Only now: while it runs it would complain that nobody reads its results.
    process.stdout.close()
    process.wait()


def _requests(stream: Any) -> Iterator[Request]:
    while True:
        try:
            yield pickle.load(stream)  # noqa: S301 - from our own parent
        except EOFError:
            return


def run_pinned(target: Target, request: Request, settings: Settings | None = None) -> Result:
    """Run one universe out of a nursery."""
    (result,) = explore_pinned(target, [request], settings)
    return result


def _warning_options() -> list[str]:
    return [f"-W{option}" for option in sys.warnoptions]


def _read(stream: Any) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size)
    return pickle.loads(data) if len(data) == size else None  # noqa: S301 - from our own child


def _write(stream: BinaryIO, found: object) -> None:
    data = pickle.dumps(found)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _fix_addresses() -> None:
    """Start this interpreter again without randomized addresses, where that is possible and not yet so."""
    if sys.platform != "linux" or "COTERIE_NURSERY" in os.environ:
        return
    os.environ["COTERIE_NURSERY"] = "1"
    libc = ctypes.CDLL(None, use_errno=True)
    current = libc.personality(0xFFFFFFFF)
    if current == -1 or current & _NO_RANDOM_ADDRESSES:
        return
    if libc.personality(current | _NO_RANDOM_ADDRESSES) != -1:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - itself


def _fix_entropy() -> None:
    """Seed what the modules that are imported from here on draw while they are imported.

    A library may keep a `random.Random()` of its own from import on; it must be the same everywhere.
    Universes replace this by the entropy of each host.
    """
    source = random.Random(0)  # noqa: S311 - repeatable is the point
    seed: Any = random.Random.seed

    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
        seed(self, source.getrandbits(64) if a is None else a, version)

    substitutes = Substitutes()
    substitutes.replace_attribute(random.Random, "seed", lambda _: seeded)
    substitutes.replace(os, "urandom", lambda _: source.randbytes)
    substitutes.install()
    random.seed(0)


def main() -> None:
    """Read an order, run its universes, write their results."""
    _fix_addresses()
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What the program prints while it is imported must not be taken for a result.
    target, requests, settings, jobs = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    _fix_entropy()
    try:
        scenario = target.resolve()
    except Exception as error:  # noqa: BLE001 - the parent raises it
        _write(results, _portable(error))
        return
    waiting = _requests(sys.stdin.buffer) if requests is None else requests
    running: Any = explore(scenario, waiting, settings, jobs=jobs)
    try:
        for result in running:
            _write(results, result)
    except BrokenPipeError:  # Whoever wanted them was killed, and nobody is left to be told.
        running.close()
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """Return `error`, or its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - any
        return SimulationError(f"{type(error).__name__}: {error}")
    return error
