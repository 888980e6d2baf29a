"""What a checker says of a history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from .operations import History, Interval

__all__ = ["Status", "Verdict", "inconclusive", "passed", "violated"]

Status = Literal["ok", "violated", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer of a checker: `ok`, `violated` with a witness, or `inconclusive` with the reason.

    Inconclusive never counts as a pass: test `verdict.ok`.
    """

    status: Status
    model: str = ""
    anomaly: str = ""
    """The name of what is broken, such as `stale-read`; empty unless violated."""
    sentence: str = ""
    """What is broken and where, or why nothing could be decided."""
    witness: tuple[Interval, ...] = ()
    """The operations that show the violation by themselves, in the order in which they began."""
    checked: int = 0
    """How many operations were looked at."""

    @property
    def ok(self) -> bool:
        """Whether the history keeps what the model promises."""
        return self.status == "ok"

    def __bool__(self) -> bool:
        # Three answers make no truth value: `if verdict` would mean something else to each reader.
        raise TypeError("a verdict is not true or false; use verdict.ok or verdict.status")

    def __str__(self) -> str:
        if self.status == "ok":
            return f"ok: {self.checked} operations keep the promises of {self.model}"
        head = f"{self.status}: {self.sentence}"
        return "\n".join([head, *(f"  {_line(interval)}" for interval in self.witness)])

    def to_json(self, history: History | None = None) -> dict[str, Any]:
        """Return the verdict as what JSON can hold; with the history, lines instead of positions."""
        return {
            "verdict": self.status,
            "model": self.model,
            "anomaly": self.anomaly or None,
            "sentence": self.sentence or None,
            "operations": self.checked,
            "witness": [_plain(interval, history) for interval in self.witness],
        }

    def of(self, *, model: str, checked: int) -> Verdict:
        """Return this verdict with the name of the model and the number of operations."""
        return replace(self, model=model, checked=checked)


def passed() -> Verdict:
    """Return that nothing is wrong."""
    return Verdict(status="ok")


def violated(anomaly: str, sentence: str, witness: tuple[Interval, ...] | list[Interval]) -> Verdict:
    """Return a violation; the witness is put in the order in which its operations began."""
    distinct = {interval.start: interval for interval in witness}
    ordered = tuple(distinct[start] for start in sorted(distinct))
    return Verdict(status="violated", anomaly=anomaly, sentence=sentence, witness=ordered)


def inconclusive(why: str) -> Verdict:
    """Return that nothing could be decided, and why."""
    return Verdict(status="inconclusive", sentence=why)


def _line(interval: Interval) -> str:
    end = "?" if interval.outcome == "unknown" else str(interval.end)
    return f"[{interval.start}, {end}] {interval}"


def _plain(interval: Interval, history: History | None) -> dict[str, Any]:
    line = (lambda position: position) if history is None else history.line
    return {
        "process": interval.process,
        "f": interval.f,
        "key": interval.key,
        "argument": interval.argument,
        "result": interval.result,
        "outcome": interval.outcome,
        "invoked": line(interval.start),
        "completed": None if interval.outcome == "unknown" else line(interval.end),
        "invoked_ns": interval.start_ns,
        "completed_ns": interval.end_ns,
    }
