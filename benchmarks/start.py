"""How long a node takes to start, and an import; beside a bare interpreter and peers' imports.

    python -m benchmarks.start [--quick] [--json]

A start is from the spawn of `coterie run` to its word that it is ready: the file is opened, the node
is a member, its wire and its HTTP gateway listen. Each import is in a fresh interpreter, with its
bytecode cached. Peers that are not installed are left out.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ._harness import Goal, Row, Sample, compare, main, take_turns

__all__ = ["TITLE", "run"]

TITLE = "Start of a node, and of an import"
BARE = "bare python"
APP = Path(__file__).resolve().parent.parent / "examples" / "shop.py"
PEERS = ("fastapi", "aiohttp", "grpc", "Pyro5.api")


def start_bare() -> Sample:
    """Run an interpreter that does nothing."""
    return _run("pass")


def start_node() -> Sample:
    """Start a node of the shop with a new file, and stop it again."""
    with TemporaryDirectory() as data:
        options = ("--data", data, "--http", "127.0.0.1:0", "--json", "--until-eof")
        started = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "coterie", "run", str(APP), *options],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin
            assert process.stdout
            line = process.stdout.readline()
            elapsed_s = time.perf_counter() - started
            process.stdin.close()
            process.stdout.read()
        if not line or json.loads(line)["event"] != "ready":
            raise RuntimeError(f"the node did not start; it said {line!r}")
        return Sample(elapsed_s * 1000)


@cache
def _environment() -> dict[str, str]:
    """Return an environment in which byte code is kept, as of what is installed; the warm-up writes it."""
    kept = TemporaryDirectory()
    atexit.register(kept.cleanup)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPYCACHEPREFIX": kept.name}


def _run(code: str) -> Sample:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=_environment())
    return Sample((time.perf_counter() - started) * 1000)


def _import(module: str) -> Callable[[], Sample]:
    return lambda: _run(f"import {module}")


def run(quick: bool = False) -> list[Row]:
    """Measure starts and imports, in milliseconds."""
    rounds = 3 if quick else 15
    starts = take_turns({BARE: start_bare, "coterie run": start_node}, rounds=rounds)
    rows = compare("start", starts, unit="ms", goals=[Goal("coterie run", at_most=400)])
    modules = ["coterie", *(peer for peer in PEERS if find_spec(peer.partition(".")[0]))]
    imports = take_turns({BARE: start_bare, **{module: _import(module) for module in modules}}, rounds=rounds)
    bare = imports.pop(BARE)
    alone = {
        module: [Sample(one.value - base.value) for one, base in zip(of, bare, strict=True)]
        for module, of in imports.items()
    }
    return rows + compare("import, less bare python", alone, unit="ms", goals=[Goal("coterie", at_most=120)])


if __name__ == "__main__":
    main(TITLE, run, sys.argv[1:])
