"""A universe: one run of a scenario under one tape, in a process of its own, and what came of it.

    result = run_universe(Request(scenario, seed=7))
    for result in explore(scenario, seeds=range(500), jobs=2): ...

A scenario is a coroutine function of one parameter, the `World`. It ends well when it returns; an
`AssertionError` or a `Violation` is a broken promise; `Inconclusive` says that nothing can be said,
and counts as no pass; any other exception is a crash of the program or of the scenario.

Universes are forked from this process, so they begin in the same state. That makes them repeatable
within one parent; for repeatable sets and dicts of str across parents PYTHONHASHSEED must be pinned,
which `nursery` sees to.
"""

from __future__ import annotations

import contextlib
import enum
import gc
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from ..errors import Outcome
from .errors import ProcessFailed, SimulationError
from .faults import Fired
from .network.links import Conditions
from .tape import Edits, Tape
from .trace import Event
from .world import World

__all__ = [
    "Inconclusive",
    "Request",
    "Result",
    "Scenario",
    "Settings",
    "Verdict",
    "Violation",
    "run_universe",
]

Scenario = Callable[[World], Coroutine[Any, Any, Any]]


class Violation(SimulationError):
    """A promise was broken. `promise` names it, `witness` is the evidence, as text."""

    code = "simulation_violation"
    default_outcome = Outcome.UNKNOWN

    def __init__(self, message: str, *, promise: str = "", witness: str = "") -> None:
        super().__init__(message)
        self.promise = promise
        self.witness = witness


class Inconclusive(SimulationError):
    """It cannot be said whether the promises were kept: a checker ran out of budget, or saw too little."""

    code = "simulation_inconclusive"


class Verdict(enum.StrEnum):
    OK = "ok"
    VIOLATED = "violated"
    """A promise was broken."""
    CRASHED = "crashed"
    """The program or the scenario failed in another way, did not end, or was refused something."""
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What all universes of a run have in common."""

    conditions: Conditions = field(default_factory=Conditions)
    private: tuple[str, ...] = ()
    """Modules of which each host has its own copy."""
    max_time_s: float = 3600.0
    """Virtual."""
    max_events: int = 20_000_000
    timeout_s: float = 120.0
    """Real: how long a universe may take before it is ended from outside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One universe to run. `record` keeps so many of the newest events, for a diagram."""

    seed: int
    edits: Edits = field(default_factory=Edits)
    record: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of a universe. Everything in it can be pickled."""

    seed: int
    edits: Edits
    verdict: Verdict
    message: str = ""
    """What was broken or went wrong, in a sentence."""
    promise: str = ""
    """The name of the broken promise, or the type of the error: what a smaller recipe must break as well."""
    detail: str = ""
    """The witness, or a traceback."""
    digest: str = ""
    """The hash of everything that happened."""
    fired: tuple[Fired, ...] = ()
    """The faults that happened."""
    time_s: float = 0.0
    """How much virtual time went by."""
    events: int = 0
    cpu_s: float = 0.0
    labels: tuple[str, ...] = ()
    """The streams of the tape that were drawn from."""
    output: str = ""
    """What the program printed, its end at least."""
    record: tuple[Event, ...] = ()
    value: Any = field(default=None, compare=False)
    """What the scenario returned, if it can be pickled."""


def run_universe(scenario: Scenario, request: Request, settings: Settings | None = None) -> Result:
    """Run one universe in this process and judge it. Never raises what the scenario does."""
    settings = settings or Settings()
    world = World(
        Tape(request.seed, request.edits),
        conditions=settings.conditions,
        private=settings.private,
        max_events=settings.max_events,
        max_time_s=settings.max_time_s,
        record=request.record,
    )
    began = time.process_time()
    verdict = Verdict.OK
    judged: dict[str, str] = {}
    value = None
    with contextlib.closing(world), _deterministic_collection():
        try:
            value = world.run(scenario)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a universe is judged by what it raises
            verdict, judged = _judge(error)
        return Result(
            seed=request.seed,
            edits=request.edits,
            verdict=verdict,
            digest=world.digest(),
            fired=tuple(fired for storm in world.storms for fired in storm.fired),
            time_s=world.time,
            events=world.loop.events,
            cpu_s=time.process_time() - began,
            labels=world.tape.labels,
            record=tuple(world.trace.events),
            value=value,
            **judged,
        )


@contextlib.contextmanager
def _deterministic_collection() -> Any:
    """Collect no cycles while a universe runs: finalizers would run at moments that no tape decides."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _judge(error: BaseException) -> tuple[Verdict, dict[str, str]]:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, ProcessFailed) and isinstance(error.__cause__, (AssertionError, SimulationError)):
        error = error.__cause__  # What is asserted on a host is asserted by the scenario.
    if isinstance(error, Violation):
        promise, detail = error.promise or "promise", error.witness or trace
        return Verdict.VIOLATED, {"message": str(error), "promise": promise, "detail": detail}
    if isinstance(error, AssertionError):
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).strip().partition("\n")[0] or where.line or "an assertion"
        promise = f"{where.name}:{where.lineno}"
        return Verdict.VIOLATED, {"message": text, "promise": promise, "detail": trace}
    verdict = Verdict.INCONCLUSIVE if isinstance(error, Inconclusive) else Verdict.CRASHED
    name = type(error).__name__
    return verdict, {"message": f"{name}: {error}", "promise": name, "detail": trace}
