"""What `coterie sim` tells: to people as it goes on, to machines as one object at the end."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .output import console, print_json

if TYPE_CHECKING:
    from ..simulation import Result
    from ..simulation.program import Campaign, Finding, Progress, Trial

__all__ = ["JsonReport", "Report", "TextReport"]

_FOLDER = Path(".coterie") / "sim"
"""Where recipes and diagrams are kept."""


class Report(Protocol):
    """Whoever is told how a campaign goes."""

    def exploring(self, progress: Progress) -> contextlib.AbstractContextManager[None]: ...

    def step(self, progress: Progress) -> None: ...

    def summary(self, campaign: Campaign, *, interrupted: bool) -> None: ...

    def shrinking(self, budget: int) -> contextlib.AbstractContextManager[None]: ...

    def shrunk(self, runs: int, best: Result) -> None: ...

    def finding(self, finding: Finding) -> None: ...


class TextReport:
    """For people."""

    def __init__(self, target: str, trial: Trial) -> None:
        self._target = target
        self._trial = trial
        self._bar: Any = None
        self._task: Any = None

    @contextlib.contextmanager
    def _progress(self, what: str, total: int) -> Iterator[None]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[facts]}", style="dim"),
        )
        on = console()
        with Progress(*columns, console=on, transient=True, disable=not on.is_terminal) as bar:
            self._bar, self._task = bar, bar.add_task(what, total=total, facts="")
            yield

    def exploring(self, progress: Progress) -> contextlib.AbstractContextManager[None]:
        return self._progress("universes", progress.total)

    def step(self, progress: Progress) -> None:
        fired = sum(progress.faults.values())
        facts = f"{progress.rate:.1f}/s, {fired} faults of {len(progress.faults)} classes"
        self._bar.update(self._task, completed=progress.done, facts=facts)

    def shrinking(self, budget: int) -> contextlib.AbstractContextManager[None]:
        return self._progress("making it small", budget)

    def shrunk(self, runs: int, best: Result) -> None:
        self._bar.update(self._task, completed=runs, facts=f"{len(best.fired)} faults")

    def summary(self, campaign: Campaign, *, interrupted: bool) -> None:
        progress = campaign.progress
        for line in _summary(progress, self._trial, interrupted=interrupted):
            _print(line)
        if campaign.failing is None and progress.done:
            _print(_verdict(progress), "green" if not progress.undecided else "yellow")

    def finding(self, finding: Finding) -> None:
        result = finding.result
        _print("")
        if result.verdict == "ok":
            _print(f"Universe {result.seed} keeps its promises.", "green")
        else:
            _print(f"Universe {result.seed} breaks a promise ({result.promise}).", "bold red")
            _print(f"{result.message[:1].upper()}{result.message[1:]}.")
        for title, lines in _parts(finding):
            _print(title, "bold")
            for line in lines:
                _print(f"  {line}")
        saved = save(self._target, self._trial, finding)
        _print("Diagram", "bold")
        _print(f"  {saved['diagram']}", "cyan")
        _print("Replay", "bold")
        _print(f"  {saved['replay']}", "cyan")
        if not finding.repeatable:
            _print("A second run went another way: the program does something that is not repeatable.", "red")


class JsonReport:
    """For machines: one object at the end."""

    def __init__(self, target: str, trial: Trial) -> None:
        self._target = target
        self._trial = trial
        self._facts: dict[str, Any] = {}

    def exploring(self, progress: Progress) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def step(self, progress: Progress) -> None: ...

    def shrinking(self, budget: int) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def shrunk(self, runs: int, best: Result) -> None: ...

    def summary(self, campaign: Campaign, *, interrupted: bool) -> None:
        progress = campaign.progress
        self._facts = {
            "universes": progress.done,
            "interrupted": interrupted,
            "verdicts": {verdict.value: count for verdict, count in progress.verdicts.items()},
            "faults": dict(progress.faults),
            "never_fired": progress.never_fired(self._trial.faults),
            "operations": dict(progress.operations),
            "calls": dict(progress.calls),
            "idle_clients": progress.idle(),
            "not_judged": dict(progress.not_judged),
            "unretrieved": progress.unretrieved,
            "universes_per_s": round(progress.rate, 2),
            "cpu_s": round(progress.cpu_s, 3),
            "virtual_s": round(progress.time_s, 3),
        }
        if campaign.failing is None:
            print_json(self._facts)

    def finding(self, finding: Finding) -> None:
        result = finding.result
        facts = {
            "seed": result.seed,
            "verdict": result.verdict.value,
            "promise": result.promise,
            "message": result.message,
            "witness": result.detail,
            "faults": [
                {
                    "class": fired.kind,
                    "what": fired.what,
                    "at_s": round(fired.at_s, 6),
                    "duration_s": round(fired.duration_s, 6),
                }
                for fired in result.fired
            ],
            "faults_before": len(finding.first.fired),
            "runs": finding.runs,
            "edits": json.loads(result.edits.to_json()),
            "digest": result.digest,
            "repeatable": finding.repeatable,
            **save(self._target, self._trial, finding),
        }
        print_json({**self._facts, "universe": facts})


def _print(text: str, style: str = "") -> None:
    console().print(text, style=style or None, markup=False, soft_wrap=True)


def _counts(what: str, counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return f"{total:,} {what} ({counts.get('ok', 0):,} ok, {counts.get('unknown', 0):,} unknown)"


def _summary(progress: Progress, trial: Trial, *, interrupted: bool) -> Iterator[str]:
    of = f" of {progress.total:,}" if interrupted or progress.done < progress.total else ""
    yield (
        f"{progress.done:,}{of} universes, {progress.time_s / 3600:.2f} h of virtual time "
        f"in {progress.elapsed_s:.1f} s ({progress.rate:.1f} universes/s)"
    )
    if progress.operations or progress.calls:
        operations = _counts("operations on maps", progress.operations)
        yield f"{operations}, {_counts('calls', progress.calls)}, {progress.looks:,} looks at promises"
    fired = ", ".join(f"{name} {count}" for name, count in progress.faults.most_common())
    yield f"faults: {fired or 'none'}"
    never = progress.never_fired(trial.faults)
    if never and progress.done == progress.total:  # One that ended early had no time for all of them.
        yield f"never fired: {', '.join(never)}"
    if progress.idle():
        yield f"never came to the end of a run: {', '.join(progress.idle())}"
    if progress.not_judged:
        parts = (
            f"{name} in {count} universe{'s' if count > 1 else ''}"
            for name, count in progress.not_judged.most_common()
        )
        yield f"not judged while clocks were more than a minute apart: {', '.join(parts)}"
    if progress.unretrieved:
        count, seed = len(progress.unretrieved), progress.unretrieved[0]
        of_them = "1 universe:" if count == 1 else f"{count} universes, first in"
        yield f"an exception of a task was never retrieved in {of_them} {seed}"
    for result in progress.undecided[:3]:
        yield f"universe {result.seed} could not be judged: {result.message}"


def _verdict(progress: Progress) -> str:
    if progress.undecided:
        return f"No promise was seen broken, but {len(progress.undecided)} universes could not be judged."
    return "Every promise was kept."


def _parts(finding: Finding) -> Iterator[tuple[str, list[str]]]:
    from ..simulation.tracebacks import without_simulator

    result = finding.result
    more = len(finding.first.fired) > len(result.fired)
    shrunk = f", of {len(finding.first.fired)} after {finding.runs} runs" if more else ""
    faults = [str(fired) for fired in result.fired] or ["none is needed"]
    yield f"Faults ({len(result.fired)}{shrunk})", faults
    if result.detail:
        title = "Witness" if result.verdict == "violated" else "Traceback"
        yield title, without_simulator(result.detail).splitlines()
    if result.verdict == "crashed" and result.output:
        yield "Output", result.output.rstrip().splitlines()[-10:]


def save(target: str, trial: Trial, finding: Finding) -> dict[str, str]:
    """Keep the recipe and the diagram of a universe; return where they are, and how to run it again."""
    from ..simulation.diagram import render

    result = finding.result
    _FOLDER.mkdir(parents=True, exist_ok=True)
    stem = f"{trial.app.partition(':')[0].rpartition('.')[2]}-{result.seed}"
    diagram = _FOLDER / f"{stem}.html"
    words = ["coterie", "sim", target, *_options(trial), "--replay"]
    universe = str(result.seed)
    if len(result.edits):
        recipe = _FOLDER / f"{stem}.json"
        recipe.write_text(result.edits.to_json() + "\n")
        universe += f":{recipe}"
    replay = shlex.join([*words, universe])
    diagram.write_text(render(result, title=f"{target}, universe {result.seed}", replay=replay))
    return {"diagram": str(diagram), "replay": replay}


def _options(trial: Trial) -> Iterator[str]:
    """Return the options that make the same trial."""
    from ..simulation.program import Trial

    default = Trial(app=trial.app)
    if trial.nodes != default.nodes:
        yield from ("--nodes", str(trial.nodes))
    if trial.faults != default.faults:
        yield from ("--faults", ",".join(trial.faults or ()) or "none")
    if trial.duration_s != default.duration_s:
        yield from ("--time", f"{trial.duration_s:g}s")
    if trial.weak:
        yield from ("--weak", ",".join(trial.weak))
