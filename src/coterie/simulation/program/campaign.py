"""A campaign: many universes of one app, and what is to be told of them.

    campaign = Campaign(trial, path=sys.path, seeds=range(200), jobs=2)
    for progress in campaign.run(): ...
    if campaign.failing is not None:
        print(campaign.find(campaign.failing, budget=200).result.message)

A universe that fails is run a second time, which must give the same hash, and is then made small.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..faults import CLASSES
from ..nursery import Nursery, Target, explore_pinned
from ..shrink import shrink
from ..tape import Edits
from ..universe import Request, Result, Settings, Verdict
from .scenario import Trial

__all__ = ["Campaign", "Finding", "Progress"]

_RECORD = 200_000
"""How many events of a universe are kept for its diagram."""
_FAILED = frozenset({Verdict.VIOLATED, Verdict.CRASHED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A universe that failed, made small."""

    first: Result
    """As it was found."""
    result: Result
    """The smallest that breaks the same promise, with its record."""
    runs: int
    """How many universes it took to make it small."""
    repeatable: bool
    """Whether a second run of it had the same hash."""


@dataclass(slots=True)
class Progress:
    """What a campaign knows so far."""

    total: int
    done: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """How often each class of faults fired."""
    operations: Counter[str] = field(default_factory=Counter)
    """Operations on maps, by their outcome."""
    calls: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    """Runs of workloads that came to their end, by client."""
    looks: int = 0
    """How often the promises of the app were found to hold while faults happened."""
    not_judged: Counter[str] = field(default_factory=Counter)
    """In how many universes something could not be judged all of the time, although nothing is wrong."""
    time_s: float = 0.0
    """Virtual."""
    cpu_s: float = 0.0
    elapsed_s: float = 0.0
    undecided: list[Result] = field(default_factory=list)
    unretrieved: list[int] = field(default_factory=list)
    """Seeds of universes in which an exception of a task was never looked at."""

    @property
    def rate(self) -> float:
        """Universes per second."""
        return self.done / self.elapsed_s if self.elapsed_s else 0.0

    def add(self, result: Result) -> None:
        """Take the result of one more universe in."""
        self.done += 1
        self.verdicts[result.verdict] += 1
        self.faults.update(fired.kind for fired in result.fired)
        self.time_s += result.time_s
        self.cpu_s += result.cpu_s
        if result.verdict is Verdict.INCONCLUSIVE:
            self.undecided.append(result)
        if "exception was never retrieved" in result.output:
            self.unretrieved.append(result.seed)
        if isinstance(result.value, dict):
            self.operations.update(result.value["operations"])
            self.calls.update(result.value["calls"])
            self.runs.update(result.value["runs"])
            self.looks += result.value["looks"]
            self.not_judged.update(result.value["not_judged"])

    def never_fired(self, classes: Sequence[str] | None) -> list[str]:
        """Return the classes of faults that were wanted and never happened."""
        return [name for name in (classes or CLASSES) if not self.faults[name]]

    def idle(self) -> list[str]:
        """Return the clients that never came to the end of a run."""
        return sorted(name for name, runs in self.runs.items() if not runs)


class Campaign:
    """Tries an app in the universes of `seeds`, until one fails."""

    def __init__(
        self,
        trial: Trial,
        *,
        path: Sequence[str],
        seeds: Sequence[int],
        jobs: int = 1,
        settings: Settings | None = None,
    ) -> None:
        self.trial = trial
        self.target: Target = Target("coterie.simulation.program.scenario:scenario", (trial,), tuple(path))
        self.progress: Progress = Progress(len(seeds))
        self.failing: Result | None = None
        """The first universe that failed."""
        self._seeds = seeds
        self._jobs = jobs
        self._settings = settings or Settings(max_time_s=trial.duration_s + trial.settle_s + 7300.0)

    def run(self) -> Generator[Progress, None, None]:
        """Run universes; yield after each. Ends with the first that fails. Close it to stop."""
        began = time.monotonic()
        requests = [Request(seed=seed) for seed in self._seeds]
        results = explore_pinned(self.target, requests, self._settings, jobs=self._jobs)
        with contextlib.closing(results):  # type: ignore[type-var]  # a generator
            for result in results:
                self.progress.elapsed_s = time.monotonic() - began
                self.progress.add(result)
                if result.verdict in _FAILED:
                    self.failing = result
                yield self.progress
                if self.failing is not None:
                    return

    def find(
        self, failing: Result, *, budget: int, on_run: Callable[[int, Result], Any] | None = None
    ) -> Finding:
        """Run a universe that failed again, make it small in at most `budget` runs, and record it.

        `on_run` is told how many runs were made, and the smallest result so far. Ctrl-C ends the
        search for a smaller one, and no more.
        """
        search = _Shrinking(failing, on_run)
        repeatable = True
        with contextlib.suppress(KeyboardInterrupt), Nursery(self.target, self._settings) as nursery:
            again = nursery.run(Request(seed=failing.seed, edits=failing.edits))
            repeatable = again.digest == failing.digest and again.promise == failing.promise
            if repeatable:
                search.run(nursery, budget)
        recorded = self._record(search.best.seed, search.best.edits)
        repeatable = repeatable and recorded.digest == search.best.digest
        kept = replace(search.best, record=recorded.record)
        return Finding(first=failing, result=kept, runs=search.runs, repeatable=repeatable)

    def replay(self, seed: int, edits: Edits) -> Finding:
        """Run one universe twice, the second time with its record."""
        with Nursery(self.target, self._settings) as nursery:
            first = nursery.run(Request(seed=seed, edits=edits))
        result = self._record(seed, edits)
        return Finding(first=first, result=result, runs=0, repeatable=first.digest == result.digest)

    def _record(self, seed: int, edits: Edits) -> Result:
        with Nursery(self.target, self._settings) as nursery:
            return nursery.run(Request(seed=seed, edits=edits, record=_RECORD))


class _Shrinking:
    """Makes a universe small, and knows the smallest so far when it is interrupted."""

    def __init__(self, failing: Result, on_run: Callable[[int, Result], Any] | None) -> None:
        self.best = failing
        self.runs = 0
        self._failing = failing
        self._on_run = on_run

    def run(self, nursery: Nursery, budget: int) -> None:
        def attempt(request: Request) -> Result:
            result = nursery.run(request)
            self.runs += 1
            if (result.verdict, result.promise) == (self._failing.verdict, self._failing.promise):
                self.best = result
            if self._on_run is not None:
                self._on_run(self.runs, self.best)
            return result

        if budget:
            shrink(attempt, self._failing, budget=budget)
