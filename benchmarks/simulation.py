"""The simulator: its loop beside those of its peers, and universes of the example shop.

    python -m benchmarks.simulation [--quick] [--json]

The ring is 100 tasks that pass tokens and sleep for a millisecond, in passes per second of CPU time,
Coterie's with its trace and on a host. Peers need Python 3.12: all loops run on the newest Python
that is found, in a virtual environment made for the purpose; those that cannot be installed are
named on the standard error. seedloop and simpy do not trace what runs, and simpy runs no asyncio.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ._harness import Goal, Row, Sample, compare, main, take_turns

__all__ = ["TITLE", "run"]

TITLE = "The simulator: events, and universes of the shop"
ROOT = Path(__file__).parents[1]
RING = Path(__file__).with_name("_ring.py")
PEERS = {"simloop": "0.2.2", "simloom": "0.5.0", "detangle": "0.1.0", "seedloop": "0.4.1", "simpy": "4.1.2"}
SLOW = {"simloom"}
"""Measured with a tenth of the passes."""


def _interpreters() -> Iterator[str]:
    """Yield interpreters that the peers run on, newest first."""
    for minor in (14, 13, 12):
        if sys.version_info[:2] == (3, minor):
            yield sys.executable
        elif found := shutil.which(f"python3.{minor}"):
            yield found
        pyenv = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        yield from (str(each) for each in reversed(pyenv))


def _environment() -> tuple[str, list[str]]:
    """Return an interpreter, and the peers that it can import; says on the standard error what is missing."""
    for interpreter in _interpreters():
        folder = Path(tempfile.gettempdir()) / f"coterie-benchmark-{Path(interpreter).resolve().parts[-3]}"
        python = folder / "bin" / "python"
        made = python.exists() or _quiet(interpreter, "-m", "venv", str(folder))
        if not made or not (_has(str(python), "msgspec") or _install(str(python), "msgspec")):
            continue
        for name, version in PEERS.items():
            if not _has(str(python), name):
                _install(str(python), f"{name}=={version}")
        return str(python), [name for name in PEERS if _has(str(python), name)]
    sys.stderr.write("no Python 3.12 or newer was found for the peers: only Coterie is measured\n")
    return sys.executable, []


def _quiet(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _has(python: str, module: str) -> bool:
    return _quiet(python, "-c", f"import {module}")


def _install(python: str, requirement: str) -> bool:
    done = _quiet(python, "-m", "pip", "install", "--quiet", requirement)
    if not done:
        sys.stderr.write(f"{requirement} could not be installed for {python}: it is not measured\n")
    return done


def _ring(python: str, name: str, passes: int) -> Callable[[], Sample]:
    count = passes // 10 if name in SLOW else passes
    command = [python, str(RING), name, str(count)]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}

    def measure() -> Sample:
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return Sample(float(answer.stdout))

    return measure


def _shop(universes: int, measured: Callable[[list[float], float], float]) -> Callable[[], Sample]:
    """Run universes of the shop, two at a time, and return what `measured` makes of their times."""
    from coterie.simulation import Request, Target, Verdict, explore_pinned

    scenario = ROOT / "tests" / "simulation" / "shop_scenario.py"
    target = Target(f"{scenario}:shop", None, (str(ROOT / "examples"), *sys.path))

    def measure() -> Sample:
        began = time.perf_counter()
        results = list(explore_pinned(target, [Request(seed=seed) for seed in range(universes)], jobs=2))
        elapsed_s = time.perf_counter() - began
        bad = [result for result in results if result.verdict is not Verdict.OK]
        assert not bad, f"seed {bad[0].seed}: {bad[0].message}"
        return Sample(measured([result.cpu_s for result in results], elapsed_s))

    return measure


def run(quick: bool = False) -> list[Row]:
    """Measure the loops, then the shop."""
    rounds, passes, universes = (3, 20_000, 40) if quick else (7, 100_000, 200)
    python, peers = _environment()
    candidates = {name: _ring(python, name, passes) for name in ("coterie", "stock", "bare", *peers)}
    goals = [
        Goal("coterie", of=name, at_least=2.0) for name in ("simloop", "simloom", "detangle") if name in peers
    ]
    rows = compare("ring, passes", take_turns(candidates, rounds=rounds), unit="/CPU s", goals=goals)
    rounds = max(1, rounds // 2)
    cpu = {"coterie": _shop(universes, lambda times, _: max(times))}
    rows += compare(
        "60 s of the shop, slowest",
        take_turns(cpu, rounds=rounds, warm_up=0),
        unit="CPU s",
        goals=[Goal("coterie", at_most=1.0)],
    )
    rate = {"coterie": _shop(universes, lambda times, elapsed_s: len(times) / elapsed_s)}
    rows += compare(
        "universes of the shop",
        take_turns(rate, rounds=rounds, warm_up=0),
        in_flight=2,
        unit="/s",
        goals=[Goal("coterie", at_least=1000 / 600)],
    )
    return rows


if __name__ == "__main__":
    main(TITLE, run)
