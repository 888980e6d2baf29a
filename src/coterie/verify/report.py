"""What came out of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..history import History
from .config import VerifyConfig
from .judge import Judgement, Standing
from .nemesis import Done
from .plan import Fault
from .tally import Tally, percentile
from .terms import Terms
from .workload import Workload

__all__ = ["Part", "Report"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One workload of a run."""

    workload: Workload
    history: History
    tally: Tally
    judgements: tuple[Judgement, ...]
    recovered_s: float | None
    """How long after the healing all clients had succeeded again."""
    path: Path | None = None
    """Where the history is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All that is known after a run."""

    config: VerifyConfig
    engine: str
    version: str
    origin: str
    members: int
    """How many members were started; 0 for an engine that ran before."""
    terms: Terms
    plan: tuple[Fault, ...]
    faults: tuple[Done, ...]
    parts: tuple[Part, ...]
    left_out: Mapping[str, str]
    elapsed_s: float
    """From the first operation to the last."""
    worked_s: float
    """How much of it there were clients and faults; then came healing and the last reads."""
    interrupted: bool = False
    trouble: str = ""
    """What could not be made well again after the faults."""
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def through(self) -> str:
        """How the clients reached the engine, in words."""
        if not self.config.raw:
            return "through the port"
        return f"raw client, {self.config.isolation}" if self.engine == "postgres" else "raw client"

    @property
    def what(self) -> str:
        """What was verified, in words: members, the way there, settings."""
        members = {0: "as it runs", 1: "1 member"}.get(self.members, f"{self.members} members")
        settings = (f"{name}={value}" for name, value in self.config.settings.items())
        return ", ".join((members, self.through, *settings))

    @property
    def left_out_in_words(self) -> list[str]:
        """What was left out, one line for each reason."""
        reasons: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            reasons.setdefault(why, []).append(name)
        return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """Those of all workloads."""
        return tuple(judgement for part in self.parts for judgement in part.judgements)

    @property
    def broken(self) -> tuple[Judgement, ...]:
        """The promises that were made and violated."""
        return tuple(j for j in self.judgements if j.standing is Standing.BROKEN)

    @property
    def verdict(self) -> str:
        """All in one word, as of a history: `violated`, `inconclusive` if something is undecided, or `ok`."""
        if self.broken:
            return "violated"
        return "inconclusive" if self.doubt else "ok"

    @property
    def untouched(self) -> bool:
        """Whether faults were to be done and none happened: then nothing is known of what they would do."""
        return bool(self.faults) and not any(done.happened for done in self.faults)

    @property
    def doubt(self) -> str:
        """Why it says little that no promise was seen broken: a sentence without its full stop, or empty."""
        if self.interrupted:
            return "Interrupted: no promise was seen broken until then"
        if self.untouched:
            return "No promise was seen broken, but none of the faults could be done"
        if any(j.standing is Standing.UNDECIDED for j in self.judgements):
            return "No promise was seen broken, but not all could be judged"
        return ""

    @property
    def findings(self) -> tuple[tuple[Part, Judgement], ...]:
        """What was violated or could not be decided, promised or not; the same sentence once."""
        seen: set[tuple[str, str]] = set()
        found = []
        for part in self.parts:
            for judgement in part.judgements:
                told = (judgement.workload, judgement.verdict.sentence)
                if not judgement.verdict.ok and told not in seen:
                    seen.add(told)
                    found.append((part, judgement))
        return tuple(found)

    @property
    def counts(self) -> Counter[str]:
        """How many operations are ok, failed and unknown."""
        return sum((part.tally.counts for part in self.parts), Counter())

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 1 for a violation, 130 for a run that was interrupted, 3 where something is undecided, or 0.

        A run in which none of its faults happened decides nothing.

        With `strict` a violation of what is not promised counts too.
        """
        standings = {judgement.standing for judgement in self.judgements}
        if Standing.BROKEN in standings or (strict and Standing.OBSERVED in standings):
            return 1
        if self.interrupted:
            return 130
        return 3 if self.doubt else 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as what JSON can hold."""
        return {
            "engine": self.engine,
            "version": self.version,
            "origin": self.origin,
            "members": self.members,
            "through": "raw client" if self.config.raw else "port",
            "isolation": self.config.isolation if self.config.raw else None,
            "settings": dict(self.config.settings),
            "seed": self.config.seed,
            "clients": self.config.clients,
            "rate_per_s": self.config.rate_per_s,
            "time_s": self.config.time_s,
            "worked_s": round(self.worked_s, 3),
            "elapsed_s": round(self.elapsed_s, 3),
            "interrupted": self.interrupted,
            "trouble": self.trouble or None,
            "left_out": dict(self.left_out),
            "operations": _counts(self.counts),
            "faults": [_fault(done) for done in self.faults],
            "plan": [asdict(fault) for fault in self.plan],
            "workloads": [_part(part) for part in self.parts],
            "verdict": self.verdict,
        }


def _counts(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in ("ok", "failed", "unknown")}


def _fault(done: Done) -> dict[str, Any]:
    return {
        "kind": done.kind,
        "member": done.member,
        "leader": done.leader,
        "cut": done.cut or None,
        "start_s": round(done.start_s, 3),
        "end_s": None if done.end_s is None else round(done.end_s, 3),
        "happened": done.happened,
        "trouble": done.trouble or None,
    }


def _part(part: Part) -> dict[str, Any]:
    tally = part.tally
    latencies = sorted(ms for bucket in tally.buckets for ms in bucket.latencies_ms)
    return {
        "workload": part.workload.name,
        "operations": _counts(tally.counts),
        "errors": dict(tally.errors),
        "latency_ms": {
            "p50": round(percentile(latencies, 0.5), 3),
            "p99": round(percentile(latencies, 0.99), 3),
        },
        "longest_gap_s": round(tally.gap_s, 3),
        "recovered_s": None if part.recovered_s is None else round(part.recovered_s, 3),
        "availability": [
            {"ok": bucket.ok, "failed": bucket.failed, "unknown": bucket.unknown} for bucket in tally.buckets
        ],
        "availability_width_s": round(tally.width_s, 3),
        "history": None if part.path is None else str(part.path),
        "promises": [
            {
                "promise": judgement.promise.name,
                "model": judgement.promise.model,
                "options": dict(judgement.promise.options),
                "standing": judgement.standing.name.lower(),
                "why_not": judgement.why_not or None,
                **judgement.verdict.to_json(part.history),
            }
            for judgement in part.judgements
        ],
    }
