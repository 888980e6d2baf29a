"""What `coterie verify` tells: to people while it goes on and after it, to machines as one object."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .output import console, echo, print_json, print_table

if TYPE_CHECKING:
    from ..verify import Judgement, Report, Run, VerifyConfig
    from ..verify.report import Part

__all__ = ["JsonReport", "TextReport", "VerifyReport"]

_PIECES = 40
"""How many characters a timeline has."""
_STYLES = {"KEPT": "green", "BROKEN": "bold red", "OBSERVED": "yellow", "UNDECIDED": "yellow"}
_WORDS = {
    "KEPT": "kept",
    "BROKEN": "BROKEN",
    "OBSERVED": "not promised: violated",
    "NOT_OBSERVED": "not promised: not violated",
    "UNDECIDED": "undecided",
}


class VerifyReport(Protocol):
    """Whoever is told how a run goes."""

    command: str

    def running(self) -> contextlib.AbstractContextManager[None]: ...

    def step(self, run: Run | None) -> None: ...

    def tell(self, report: Report, *, strict: bool) -> None: ...

    def wrote(self, page: Path) -> None: ...


class TextReport:
    """For people."""

    def __init__(self, config: VerifyConfig) -> None:
        self._config = config
        self.command: str = _command(config)
        self._told = False
        self._bar: Any = None
        self._task: Any = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<36}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[facts]}", style="dim"),
        )
        on = console()
        with Progress(*columns, console=on, transient=True, disable=not on.is_terminal) as bar:
            name = self._config.engine.partition(":")[0]
            self._bar = bar
            self._task = bar.add_task(f"starting {name}", total=self._config.time_s, facts="")
            yield

    def step(self, run: Run | None) -> None:
        if run is None:
            return
        if run.crews and not self._told:
            self._told = True
            if not console().is_terminal:
                what = f"{run.system.name} {run.system.version}".strip()
                echo(f"{what}: {self._config.time_s:g} s of work; Ctrl-C judges what there is", err=True)
        counts = run.counts
        current = None if run.nemesis is None else run.nemesis.current
        facts = f"{counts['ok']:,} ok, {counts['failed']:,} failed, {counts['unknown']:,} unknown"
        working = run.phase in {"faults", "work"}
        self._bar.update(
            self._task,
            description=str(current) if current is not None and working else run.phase,
            completed=min(run.now(), self._config.time_s) if run.crews else 0,
            facts=facts,
        )

    def tell(self, report: Report, *, strict: bool) -> None:
        _print(_what(report), "bold")
        for line in _facts(report):
            _print(line)
        if report.trouble:
            _print(f"It could not be made well again: {report.trouble}", "red")
        _timelines(report)
        _promises(report)
        for part, judgement in report.findings:
            _witness(part, judgement)
        _print("Histories", "bold")
        for part in report.parts:
            if part.path is not None:
                _print(f"  {_check(part)}", "cyan")
        _print("The same plan again", "bold")
        _print(f"  {self.command}", "cyan")
        _print(*_verdict(report, strict))

    def wrote(self, page: Path) -> None:
        _print(f"  {page}", "cyan")


class JsonReport:
    """For machines: one object at the end."""

    def __init__(self, config: VerifyConfig) -> None:
        self.command: str = _command(config)

    def running(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def step(self, run: Run | None) -> None: ...

    def tell(self, report: Report, *, strict: bool) -> None:
        print_json({**report.to_json(), "exit_code": report.exit_code(strict=strict), "again": self.command})

    def wrote(self, page: Path) -> None: ...


def _print(text: str, style: str = "") -> None:
    console().print(text, style=style or None, markup=False, soft_wrap=True)


def _what(report: Report) -> str:
    origin = f" ({report.origin})" if report.origin else ""
    name = f"{report.engine} {report.version}".strip()
    return f"{name}{origin}, {report.what}, seed {report.config.seed}"


def _facts(report: Report) -> Iterator[str]:
    counts, config = report.counts, report.config
    cut = ", interrupted" if report.interrupted else ""
    yield (
        f"{counts['ok']:,} ok, {counts['failed']:,} failed and {counts['unknown']:,} unknown operations of "
        f"{config.clients} clients in {report.elapsed_s:.1f} s{cut}"
    )
    kinds = Counter(done.kind for done in report.faults if done.happened)
    leaders = sum(done.leader for done in report.faults if done.happened)
    listed = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    yield f"faults: {listed} ({leaders} at the leader)" if listed else "faults: none"
    for done in report.faults:
        if done.trouble:
            yield f"  {done} at {done.start_s:.1f} s: {done.trouble}"
    yield from (f"left out: {line}" for line in report.left_out_in_words)
    for note in report.terms.notes:
        yield f"note: {note}"


def _timelines(report: Report) -> None:
    from ..verify.tally import percentile, sparkline

    rows: list[list[tuple[str, str] | str]] = []
    for part in report.parts:
        tally = part.tally.merged(_PIECES)
        latencies = sorted(ms for bucket in tally.buckets for ms in bucket.latencies_ms)
        rows.append(
            [
                part.workload.name,
                (sparkline([bucket.ok for bucket in tally.buckets]), "green"),
                *(f"{tally.counts[name]:,}" for name in ("ok", "failed", "unknown")),
                f"{percentile(latencies, 0.5):.1f}",
                f"{percentile(latencies, 0.99):.1f}",
                f"{tally.gap_s:.1f}",
            ]
        )
    rows.append([("faults", "dim"), (_fault_line(report), "red"), "", "", "", "", "", ""])
    columns = ("workload", "successes over time", "ok", "failed", "unknown", "p50 ms", "p99 ms", "gap s")
    print_table(columns, rows)


def _fault_line(report: Report) -> str:
    """Return a letter for each piece of time in which a fault lasted: K for a kill."""
    line = [" "] * _PIECES
    width_s = report.elapsed_s / _PIECES
    for done in report.faults:
        end_s = report.elapsed_s if done.end_s is None else done.end_s
        first, last = (min(int(moment / width_s), _PIECES - 1) for moment in (done.start_s, end_s))
        for place in range(first, last + 1):
            line[place] = done.kind[0].upper() if done.kind != "partition" else "="
    return "".join(line)


def _promises(report: Report) -> None:
    rows: list[list[tuple[str, str] | str]] = []
    for judgement in report.judgements:
        name = judgement.standing.name
        what = judgement.why_not or judgement.verdict.anomaly
        if judgement.standing.name == "OBSERVED":
            what = f"{judgement.verdict.anomaly}: {judgement.why_not}"
        rows.append(
            [judgement.workload, judgement.promise.name, (_WORDS[name], _STYLES.get(name, "dim")), what]
        )
    print_table(("workload", "promise", "verdict", ""), rows)


def _witness(part: Part, judgement: Judgement) -> None:
    verdict = judgement.verdict
    _print(f"{part.workload.name}, {judgement.promise.name}: {verdict.anomaly or 'undecided'}", "bold")
    _print(f"  {verdict.sentence[:1].upper()}{verdict.sentence[1:]}.")
    lines = str(verdict).splitlines()[1:]
    for line in lines[:8]:
        _print(f"  {line[:160]}", "dim")
    if len(lines) > 8:
        _print(f"    and {len(lines) - 8} more", "dim")


def _check(part: Part) -> str:
    promise = part.workload.promises[0]
    options = " ".join(
        f"-o {name}={shlex.quote(_json(value))}" for name, value in sorted(promise.options.items())
    )
    return f"coterie check-history {part.path} --model {promise.model} {options}".rstrip()


def _json(value: Any) -> str:
    from .output import json_line

    return value if isinstance(value, str) else json_line(value)


def _verdict(report: Report, strict: bool) -> tuple[str, str]:
    if report.broken:
        names = ", ".join(f"{j.workload} ({j.promise.name})" for j in report.broken)
        many = "A promise was" if len(report.broken) == 1 else f"{len(report.broken)} promises were"
        return f"{many} broken: {names}.", "bold red"
    if report.exit_code(strict=strict) == 1:
        return "What was promised was kept, and what was not was violated (--strict).", "red"
    if report.doubt:
        return f"{report.doubt}.", "yellow"
    observed = len({part.workload.name for part, j in report.findings})
    if observed:
        many = "a workload" if observed == 1 else f"{observed} workloads"
        return f"Every promise was kept. What is not promised was violated in {many}.", "green"
    return "Every promise was kept.", "green"


def _command(config: VerifyConfig) -> str:
    from ..verify import VerifyConfig

    default = VerifyConfig(engine=config.engine)
    words = ["coterie", "verify", re.sub(r"//[^@/]*@", "//…@", config.engine)]
    pairs = (
        ("--nodes", str(config.members), config.members == default.members),
        ("--workload", ",".join(config.workloads), config.workloads == default.workloads),
        ("--faults", ",".join(config.faults) or "none", config.faults == default.faults),
        ("--time", f"{config.time_s:g}s", config.time_s == default.time_s),
        ("--clients", str(config.clients), config.clients == default.clients),
        ("--rate", f"{config.rate_per_s:g}", config.rate_per_s == default.rate_per_s),
        ("--isolation", config.isolation, config.isolation == default.isolation),
    )
    for option, value, usual in pairs:
        words += [] if usual else [option, value]
    words += ["--raw"] if config.raw else []
    for name, value in config.settings.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join([*words, "--seed", str(config.seed)])
