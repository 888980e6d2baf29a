"""What will happen in a run, from its seed alone: which faults, when, and whom they aim at. Pure.

The plan is repeatable; what the operating system and the engine make of it is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["CLASSES", "DEFAULT_CLASSES", "Fault", "plan_faults", "random_for"]

CLASSES = {
    "kill": "SIGKILL of a member, which is started again on its data",
    "pause": "SIGSTOP of a member, and SIGCONT",
    "partition": "a member is cut off: from the others, in one direction, or from the clients",
    "restart": "a member is stopped in its orderly way and started again",
    "failover": "the primary is cut off, killed, and a replica promoted by hand (postgres, redis, valkey)",
}
"""The classes of faults, and what each does."""

DEFAULT_CLASSES = ("kill", "pause", "partition", "restart")

_CUTS = ("alone", "one-way", "from-clients")
_CALM_S = 2.0
_FAULT_S = (1.0, 4.0)
_PAUSE_S = (1.0, 3.0)
_LEADERS = 0.6
"""The share of faults that aim at whoever leads at that moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault that is to begin `at_s` into the run, at the earliest, and to last `duration_s`."""

    kind: str
    at_s: float
    duration_s: float
    aim: str
    """`leader`, or the index of a member as text."""
    cut: str = ""
    """Of a partition: `alone`, `one-way` or `from-clients`."""

    def __str__(self) -> str:
        whom = "the leader" if self.aim == "leader" else f"member {self.aim}"
        how = f" ({self.cut})" if self.cut else ""
        return f"{self.kind} of {whom}{how}"


def random_for(seed: int, *names: object) -> random.Random:
    """Return the random numbers of one part of a run, which no other part changes."""
    return random.Random(":".join(map(str, (seed, *names))))  # noqa: S311 - a plan, no secret


def plan_faults(seed: int, kinds: Sequence[str], *, time_s: float, members: int) -> tuple[Fault, ...]:
    """Return the faults of a run of `time_s`. Each kind comes once before any comes again.

    Short runs have shorter faults. The beginning and the end are calm.
    """
    return tuple(_faults(random_for(seed, "faults"), kinds, time_s, members)) if kinds else ()


def _faults(rng: random.Random, kinds: Sequence[str], time_s: float, members: int) -> Iterator[Fault]:
    scale = min(1.0, max(0.2, time_s / 25))
    at_s = min(_CALM_S, time_s / 8)
    last_s = time_s - at_s
    order: list[str] = []
    while True:
        if not order:
            order = rng.sample(list(kinds), len(kinds))
        kind = order.pop()
        duration_s = rng.uniform(*_FAULT_S) * scale
        aim = "leader" if members == 1 or rng.random() < _LEADERS else str(rng.randrange(members))
        cut = rng.choice(_CUTS) if kind == "partition" else ""
        if kind == "failover":
            aim = "leader"
        if at_s + duration_s > last_s:
            return
        yield Fault(
            kind=kind,
            at_s=round(at_s, 3),
            duration_s=round(duration_s, 3),
            aim=aim,
            cut="from-clients" if cut and members == 1 else cut,
        )
        at_s += duration_s + rng.uniform(*_PAUSE_S) * scale
