"""Holds histories against promises."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ..history import History, Verdict, check
from .terms import Terms
from .workload import Promise, Workload

__all__ = ["PROGRESS", "Judgement", "Standing", "judge", "judge_progress"]

_CRASHES = {"kill", "restart"}
PROGRESS = "works again after the faults"


class Standing(enum.StrEnum):
    """How a promise came out."""

    KEPT = "kept"
    BROKEN = "broken"
    """It was made, and it was violated: a bug."""
    OBSERVED = "not promised, and violated"
    NOT_OBSERVED = "not promised, and not violated"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A promise and what became of it; `why_not` says why it was not made, if it was not."""

    workload: str
    promise: Promise
    verdict: Verdict
    why_not: str = ""

    @property
    def standing(self) -> Standing:
        """What the verdict means, given what was promised."""
        if self.verdict.status == "inconclusive":
            return Standing.UNDECIDED
        if self.why_not:
            return Standing.NOT_OBSERVED if self.verdict.ok else Standing.OBSERVED
        return Standing.KEPT if self.verdict.ok else Standing.BROKEN


def judge(workload: Workload, history: History, terms: Terms, faults: Collection[str]) -> list[Judgement]:
    """Hold a history against each promise of its workload.

    A promise after one that is kept, of the same model, is weaker and so is kept too. Where nothing
    succeeded that could have shown a violation nothing is kept: it is undecided.
    """
    missing = _missing(workload, history)
    judgements: list[Judgement] = []
    implied: Verdict | None = None
    for promise in workload.promises:
        if implied is not None and implied.model == promise.model:
            verdict = implied
        else:
            verdict = check(history, promise.model, **promise.options)
            implied = verdict if verdict.ok else None
        if missing and verdict.ok:
            verdict = Verdict(status="inconclusive", model=promise.model, sentence=missing)
        judgements.append(
            Judgement(
                workload=workload.name,
                promise=promise,
                verdict=verdict,
                why_not=terms.why_not(workload.name, promise, faults),
            )
        )
    return judgements


def _missing(workload: Workload, history: History) -> str:
    """Return what never succeeded, though without it there is nothing to judge; empty if all did."""
    succeeded = [interval for interval in history.intervals if interval.outcome == "ok"]
    never = [name for name, shows in workload.evidence.items() if not any(map(shows, succeeded))]
    return f"no {' and no '.join(never)} succeeded, so there is nothing to judge" if never else ""


def judge_progress(
    workload: str, stuck: Iterable[str], within_s: float, terms: Terms, faults: Collection[str]
) -> Judgement:
    """Return whether all clients of a workload succeeded again; `stuck` are the processes that did not.

    Where a crash takes all data, it takes what the workload was begun with, and nothing is promised.
    """
    promise = Promise(name=PROGRESS, model="progress")
    names = sorted(stuck)
    verdict = Verdict(status="ok", model="progress")
    if names:
        sentence = (
            f"{within_s:g} s after everything was healed, {', '.join(names)} had still not succeeded in all "
            "that the workload does"
        )
        verdict = Verdict(status="violated", model="progress", anomaly="no-progress", sentence=sentence)
    why_not = terms.why_not_durable(workload, _CRASHES & set(faults))
    return Judgement(workload=workload, promise=promise, verdict=verdict, why_not=why_not)
