"""What all benchmarks share: rounds by turns, medians with their spread, ratios, goals, workers.

A benchmark is a module of this folder with `TITLE`, `run(quick: bool) -> list[Row]` and a `main(...)`
under `__main__`:

    rates = take_turns({"raw": measure_raw, "coterie": measure_coterie}, rounds=7)
    rows = compare("echo", rates, in_flight=64, goals=[Goal("coterie", of="raw", at_least=0.6)])

Candidates take turns within a round, so that a noisy neighbour disturbs all alike, and a ratio is
the median of each round's own pair, so that what slows down a whole round cancels out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

__all__ = [
    "Goal",
    "Row",
    "Sample",
    "Verdict",
    "cells",
    "compare",
    "loop_factory",
    "main",
    "percentile",
    "show",
    "take_turns",
    "worker",
]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of a candidate measured: `value` in the unit of its rows, and its latencies."""

    value: float
    p50_ms: float | None = None
    p99_ms: float | None = None

    @classmethod
    def of(cls, value: float, latencies_s: Sequence[float]) -> Sample:
        """Return `value` with the percentiles of `latencies_s`, in any order."""
        ordered = sorted(latencies_s)
        return cls(value, percentile(ordered, 50) * 1000, percentile(ordered, 99) * 1000)


@dataclass(frozen=True, slots=True)
class Goal:
    """What the median of the candidate `name` must reach, or its ratio to the candidate `of`."""

    name: str
    of: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"a goal is either at least or at most something: {self}")

    def judge(self, medians: Mapping[str, float], ratios: Mapping[str, float], unit: str) -> Verdict:
        """Return whether it is reached, given medians by candidate and this one's ratios to others."""
        value = medians[self.name] if self.of is None else ratios[self.of]
        reached = value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0)
        sign, bound = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        unit = f"x {self.of}" if self.of is not None else f" {unit}"
        return Verdict(f"{sign} {bound:g}{unit}", round(value, 3), reached)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal in words, what was measured for it, and whether that reaches it."""

    goal: str
    measured: float
    reached: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate in one part of a benchmark, over all rounds.

    `part` is what was done, `name` by whom. `median`, `low` and `high` are in `unit`. `ratio` is this
    candidate's value through the value of `beside` in the same round, the median over rounds.
    """

    part: str
    name: str
    in_flight: int
    unit: str
    median: float
    low: float
    high: float
    p50_ms: float | None
    p99_ms: float | None
    beside: str
    ratio: float
    goals: tuple[Verdict, ...] = ()


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile of values in ascending order, of which there is at least one."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def take_turns(
    candidates: Mapping[str, Callable[[], Sample]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[Sample]]:
    """Run every candidate once a round, in order; return the samples of each after `warm_up` rounds.

    A candidate of asyncio code is `lambda: runner.run(measure())` with one `asyncio.Runner` for all.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in candidates}
    for turn in range(warm_up + rounds):
        for name, candidate in candidates.items():
            sample = candidate()
            if turn >= warm_up:
                samples[name].append(sample)
    return samples


def compare(
    part: str,
    samples: Mapping[str, Sequence[Sample]],
    *,
    in_flight: int = 1,
    unit: str = "per s",
    beside: str | None = None,
    goals: Sequence[Goal] = (),
) -> list[Row]:
    """Return a row for each candidate; ratios are to the candidate `beside`, by default the first."""
    values = {name: [sample.value for sample in of] for name, of in samples.items()}
    medians = {name: statistics.median(of) for name, of in values.items()}
    beside = beside or next(iter(samples))
    rows = []
    for name, of in samples.items():
        ratios = {
            other: statistics.median(a / b for a, b in zip(values[name], values[other], strict=True))
            for other in samples
        }
        rows.append(
            Row(
                part=part,
                name=name,
                in_flight=in_flight,
                unit=unit,
                median=_rounded(medians[name]),
                low=_rounded(min(values[name])),
                high=_rounded(max(values[name])),
                p50_ms=_median_ms([sample.p50_ms for sample in of]),
                p99_ms=_median_ms([sample.p99_ms for sample in of]),
                beside=beside,
                ratio=round(ratios[beside], 3),
                goals=tuple(goal.judge(medians, ratios, unit) for goal in goals if goal.name == name),
            )
        )
    return rows


def _rounded(value: float) -> float:
    return round(value) if value >= 1000 else round(value, 2)


def _median_ms(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


def loop_factory() -> asyncio.AbstractEventLoop:
    """Return a new loop of the kind that a node would use: uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


@contextmanager
def worker(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `python -m benchmarks.<module> <arguments>` beside this process until the block ends.

    Yields the process, with pipes for its stdin and stdout, and the first line that it writes, by
    which it says that it is ready. It is killed at the end.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            ready = process.stdout.readline().rstrip("\n")
            if not ready:
                raise RuntimeError(f"{' '.join(command)} ended before it was ready; its errors are above")
            yield process, ready
        finally:
            process.kill()


def show(title: str, rows: Sequence[Row]) -> None:
    """Print `rows` as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("measured", "in flight", "by"):
        table.add_column(column, no_wrap=True)
    for column in ("median", "spread", "p99 ms", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("goal")
    last: tuple[str, int] | None = None
    for row in rows:
        if last is not None and last != (row.part, row.in_flight):
            table.add_section()
        part, in_flight, *others, _ = cells(row)
        again = last == (row.part, row.in_flight)
        colours = ("green" if verdict.reached else "red" for verdict in row.goals)
        goals = (
            f"[{colour}]{_verdict(verdict)}[/]" for verdict, colour in zip(row.goals, colours, strict=True)
        )
        table.add_row(*(("", "") if again else (part, in_flight)), *others, "\n".join(goals))
        last = (row.part, row.in_flight)
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # A file has room for a whole row.
    console.print(table)


def cells(row: Row) -> tuple[str, ...]:
    """Return `row` as text: measured, in flight, by, median, spread, p99, ratio, goals."""
    return (
        row.part,
        str(row.in_flight),
        row.name,
        f"{_number(row.median)} {row.unit}",
        f"{_number(row.low)} to {_number(row.high)}",
        "" if row.p99_ms is None else _number(float(f"{row.p99_ms:.3g}")),
        "" if row.name == row.beside else f"{row.ratio:.2f}x {row.beside}",
        "; ".join(_verdict(verdict) for verdict in row.goals),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.goal}: " + ("reached" if verdict.reached else f"missed ({verdict.measured:g})")


def main(title: str, run: Callable[[bool], list[Row]], arguments: Sequence[str] | None = None) -> None:
    """Be the command line of one benchmark: `python -m benchmarks.<module> [--quick] [--json]`."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    rows = run(options.quick)
    if options.json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    else:
        show(title, rows)
