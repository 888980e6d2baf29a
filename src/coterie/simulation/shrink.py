"""Making a failing universe small: fewer faults, calmer draws, the same broken promise.

Shrinking edits the tape towards calm, and keeps an edit when the universe still breaks the same
promise. Faults are removed first, by delta debugging (Zeller and Hildebrandt, 2002); then whole
streams of noise are made calm; then the single draws of the faults that are left. In the end faults are
removed together with the noise: a fault may matter only by what it made the links draw after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .tape import Edit, Edits
from .universe import Request, Result, Verdict

__all__ = ["Shrunk", "shrink"]

Runner = Callable[[Request], Result]

_DRAWS_OF_A_FAULT = 8
"""How many of the draws of one fault are tried; no class draws more that matters."""

_NOISE = ("link/*", "dns/*", "disk/*", "schedule")
"""The streams that are neither faults nor entropy."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest universe found that breaks the same promise, and how many runs that took."""

    result: Result
    runs: int

    @property
    def faults(self) -> int:
        return len(self.result.fired)


class _Search:
    def __init__(self, run: Runner, failing: Result, budget: int) -> None:
        self._run = run
        self._budget = budget
        self.best = failing
        self.runs = 0

    @property
    def exhausted(self) -> bool:
        return self.runs >= self._budget

    def attempt(self, edits: Edits) -> bool:
        """Run with `edits`, and make it the best if it breaks the same promise."""
        if self.exhausted or edits == self.best.edits:
            return False
        self.runs += 1
        result = self._run(Request(seed=self.best.seed, edits=edits))
        same = result.verdict is self.best.verdict and result.promise == self.best.promise
        if same:
            self.best = result
        return same


def shrink(run: Runner, failing: Result, *, budget: int = 200) -> Shrunk:
    """Return a universe no larger than `failing` that breaks the same promise, in at most `budget` runs."""
    if failing.verdict in {Verdict.OK, Verdict.INCONCLUSIVE}:
        return Shrunk(failing, 0)
    search = _Search(run, failing, budget)
    _remove_faults(search)
    _calm_noise(search)
    _calm_draws(search)
    _remove_faults_with_noise(search)
    return Shrunk(search.best, search.runs)


def _labels_of_faults(result: Result) -> list[str]:
    return [fired.label for fired in result.fired]


def _remove_faults(search: _Search) -> None:
    """Remove ever smaller groups of faults, until no single one can go."""
    size = len(search.best.fired)
    while size >= 1 and not search.exhausted:
        labels = _labels_of_faults(search.best)
        groups = [labels[start : start + size] for start in range(0, len(labels), size)]
        removed = [search.attempt(search.best.edits.calm(group)) for group in groups]
        if not any(removed) or size > len(search.best.fired):
            size = min(size, max(1, len(search.best.fired))) // 2 if size > 1 else 0


def _calm_noise(search: _Search) -> None:
    """Make the streams calm that are no faults: all at once, or by kind, or one by one."""
    if search.attempt(search.best.edits.calm(_NOISE)):
        return
    for kind in _NOISE:
        labels = [label for label in search.best.labels if label.startswith(kind.removesuffix("*"))]
        if labels and not search.attempt(search.best.edits.calm([kind])) and len(labels) > 1:
            for label in labels:
                search.attempt(search.best.edits.calm([label]))


def _remove_faults_with_noise(search: _Search) -> None:
    """Remove single faults, alone or with the noise of all links or of everything, until none can go."""
    removed = True
    while removed:
        removed = any(
            search.attempt(search.best.edits.calm([label, *noise]))
            for label in _labels_of_faults(search.best)
            for noise in ((), ("link/*",), _NOISE)
        )


def _calm_draws(search: _Search) -> None:
    """Make single draws of the faults calm: the first, the shortest. Draw 0 is the fault itself."""
    for label in _labels_of_faults(search.best):
        for index in range(1, _DRAWS_OF_A_FAULT):
            edit = search.best.edits.find(label) or Edit(None)
            if edit.calm_from == 0 or index in edit.values:
                continue
            values = {**edit.values, index: None}
            search.attempt(search.best.edits.with_edit(label, Edit(edit.calm_from, values)))
