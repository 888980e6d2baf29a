"""What a workload is: a pure plan of actions, a user that carries them out, and promises to judge by."""

from __future__ import annotations

import abc
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CoterieError, Outcome
from ..history import Interval, Recorder
from .target import Target

__all__ = ["Action", "Promise", "User", "Workload", "distinct"]

_PER_CLIENT = 1_000_000


@dataclass(frozen=True, slots=True)
class Action:
    """What a user is to do next. `f`, `key` and `value` are those that go into the history, mostly."""

    f: str
    key: str | None = None
    value: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """One sentence that a history is held against, by a model of `coterie.history`."""

    name: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    never: str = ""
    """Why nobody promises it, for what is looked at all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A kind of work, with all that is needed to do it and to judge it."""

    name: str
    summary: str
    actions: Callable[[random.Random, int], Iterator[Action]]
    """The endless plan of a client, from its own random numbers and its index. Pure."""

    closing: Callable[[Sequence[Action]], list[Action]]
    """What each client does at the very end, when all is well again: the last reads of what was used."""

    user: Callable[[str, int, Recorder], User]
    promises: tuple[Promise, ...]
    """The strongest comes first: where it is kept, so are the ones after it."""

    evidence: Mapping[str, Callable[[Interval], bool]]
    """What must have succeeded, each by its name, for there to be anything to judge: a promise that nothing
    is lost is not kept by a system that took nothing, or from which nothing was read. And what each client
    must succeed in again after the faults."""

    returning: Callable[[random.Random, int], Iterator[Action]] | None = None
    """What a client does to show that it works again, if it is not the same as before."""

    marks: Callable[[int], list[Action]] = lambda _number: []
    """What one client does before all read for the last time; other values at each try, by its number."""


class User(abc.ABC):
    """One client of one workload: does actions one after the other and records them."""

    def __init__(self, name: str, index: int, recorder: Recorder) -> None:
        self.process: str = f"{name}-{index}"
        self.index = index
        self.recorder = recorder
        self.counts: Counter[str] = Counter()
        self.lately: list[Interval] = []
        """What succeeded of the latest action."""

    @abc.abstractmethod
    async def perform(self, action: Action, target: Target) -> None:
        """Do and record one action. Errors of the system are recorded and end it; none is raised.

        Cancelling it leaves the outcome unknown.
        """

    async def record(self, action: Action, doing: Callable[[], Any]) -> tuple[bool, Any]:
        """Record what `doing` does; return whether it succeeded, and its result."""
        try:
            with self.recorder.operation(
                self.process, action.f, key=action.key, value=action.value
            ) as running:
                running.result = await doing()
        except CoterieError as error:
            self.counts["failed" if error.outcome is Outcome.NOT_APPLIED else "unknown"] += 1
            return False, None
        self.counts["ok"] += 1
        done = Interval(self.process, action.f, action.key, action.value, running.result, "ok", 0, 0)
        self.lately.append(done)
        return True, running.result


def distinct(client: int, number: int) -> int:
    """Return a value that no other client and no other action writes."""
    if number >= _PER_CLIENT:
        raise CoterieError(
            f"a client of verify did more than {_PER_CLIENT} actions", outcome=Outcome.NOT_APPLIED
        )
    return client * _PER_CLIENT + number
