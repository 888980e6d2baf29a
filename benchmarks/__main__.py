"""Runs the benchmarks of this folder, prints a table for each, and saves all as JSON."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import msgspec

from ._harness import Row, cells, show

__all__ = ["names", "run_all"]

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PACKAGES = ("coterie", "msgspec", "uvloop", "uvicorn", "fastapi", "aiohttp", "grpcio", "Pyro5")

EXAMPLES = """examples:
  python -m benchmarks                     all, about 25 minutes
  python -m benchmarks store sharing       keys on SQLite, by one process and by three
  python -m benchmarks http --quick        a first look
  python -m benchmarks --json > all.json   for machines; the tables are left out
  make bench ARGS="http --quick"           the same, and installs what is missing

Each run is saved in benchmarks/results/ under its date, or where --save says. It exits 1 if a goal
was missed and --strict is given.
"""


def names() -> list[str]:
    """Return the benchmarks that there are: the modules of this folder that have a title."""
    files = FOLDER.glob("[!_]*.py")
    return sorted(file.stem for file in files if "\nTITLE = " in file.read_text(encoding="utf-8"))


def machine() -> dict[str, Any]:
    """Return what the numbers depend on besides the code."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "sqlite": sqlite3.sqlite_version,
        "versions": versions,
    }


def run_all(
    chosen: Sequence[str], file: Path | None, *, quick: bool, tables: bool
) -> tuple[dict[str, Any], Path]:
    """Run the benchmarks called `chosen`, one after the other; return the report, and where it is saved."""
    report: dict[str, Any] = {"machine": machine(), "quick": quick, "benchmarks": {}}
    moment = datetime.fromisoformat(report["machine"]["date"])
    file = file or RESULTS / f"{moment:%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        module = import_module(f"{__package__}.{name}")
        rows: list[Row] = module.run(quick)
        if tables:
            show(f"{name}: {module.TITLE}", rows)
        report["benchmarks"][name] = {"title": module.TITLE, "rows": [asdict(row) for row in rows]}
        # After each, so that an end in the middle loses nothing.
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report, file


def missed(report: dict[str, Any]) -> list[str]:
    """Return the goals that were missed, a sentence each."""
    return [
        f"{name}: {row['part']}, {row['in_flight']} in flight, {row['name']}: "
        f"{verdict['goal']}, measured {verdict['measured']:g}"
        for name, benchmark in report["benchmarks"].items()
        for row in benchmark["rows"]
        for verdict in row["goals"]
        if not verdict["reached"]
    ]


def markdown(report: dict[str, Any]) -> str:
    """Return a saved report as Markdown."""
    facts = report["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    system = f"{facts['cpus']} CPUs, {facts['system']}, {facts['python']}, SQLite {facts['sqlite']}"
    lines = [f"{facts['date'][:10]}, {system}, {versions}."]
    for benchmark in report["benchmarks"].values():
        lines += ["", f"**{benchmark['title']}**", ""]
        lines += ["| measured | in flight | by | median | spread | p99 ms | ratio | goal |"]
        lines += ["|---|---|---|--:|--:|--:|--:|---|"]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows_of(benchmark)]
    return "\n".join(lines) + "\n"


def rows_of(benchmark: dict[str, Any]) -> list[Row]:
    """Return the rows of a saved benchmark."""
    return msgspec.convert(benchmark["rows"], list[Row])


def main(arguments: Sequence[str] | None = None) -> int:
    """Be the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = names()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--save", type=Path, metavar="FILE", help="save the results there")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a goal is missed")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print saved results as Markdown, and end")
    options = parser.parse_args(arguments)
    if options.show:
        sys.stdout.write(markdown(json.loads(options.show.read_text(encoding="utf-8"))))
        return 0
    for name in options.names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            parser.error(f"there is no benchmark {name!r}; {meant}there are: {', '.join(known)}")
    report, file = run_all(options.names or known, options.save, quick=options.quick, tables=not options.json)
    failures = missed(report)
    if options.json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        for failure in failures:
            sys.stdout.write(f"missed: {failure}\n")
        sys.stdout.write(f"saved: {file}\n")
    return 1 if failures and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
