"""The models by name, and `check`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import InvalidArgument
from .checkers.append import check_append
from .checkers.bank import check_bank
from .checkers.causal import check_causal
from .checkers.convergence import check_convergence
from .checkers.counter import check_counter
from .checkers.logs import check_log
from .checkers.mutex import check_mutex
from .checkers.queues import check_queue
from .checkers.register import check_map, check_register
from .checkers.sets import check_set
from .operations import History, Operation
from .verdict import Verdict

__all__ = ["MODELS", "Model", "check"]


@dataclass(frozen=True, slots=True)
class Model:
    """A named checker; `options` are its keyword arguments with their defaults."""

    name: str
    summary: str
    decide: Callable[..., Verdict]

    @property
    def options(self) -> dict[str, Any]:
        parameters = inspect.signature(self.decide).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


_ALL = (
    Model("register", "each key is a linearizable register: read, write, cas", check_register),
    Model("map", "each key is a linearizable register that may be absent: get, put, delete, cas", check_map),
    Model("set", "what was added is in every later read, and reads grow: add, read", check_set),
    Model("queue", "what is enqueued comes out once and in order: enqueue, dequeue, drain", check_queue),
    Model("log", "one offset for each record, in order, and readers skip none: append, read", check_log),
    Model("counter", "each read is the sum of what was added before: add, subtract, read", check_counter),
    Model(
        "mutex", "one holder at a time, rising tokens, no stale write: acquire, release, write", check_mutex
    ),
    Model(
        "append", "transactions that append to lists and read them keep to an isolation level", check_append
    ),
    Model("bank", "the total is conserved in each read: transfer, read", check_bank),
    Model(
        "causal", "no effect is seen without its cause, each process is a session: read, write", check_causal
    ),
    Model("convergence", "the last reads of all replicas agree: read, anything else", check_convergence),
)

MODELS: Mapping[str, Model] = MappingProxyType({model.name: model for model in _ALL})
"""All the models by name."""


def check(history: History | Iterable[Operation], model: str, **options: Any) -> Verdict:
    """Return whether the history keeps what `model` promises.

    `options` are those of the model: see `MODELS[model].options`. Raises `InvalidArgument` for an
    unknown model or option, and for records that are no history or do not fit the model.
    """
    if model not in MODELS:
        raise InvalidArgument(f"there is no model {model!r}", hint=f"there are: {', '.join(MODELS)}")
    chosen = MODELS[model]
    for name in options:
        if name not in chosen.options:
            known = ", ".join(chosen.options) or "none"
            raise InvalidArgument(f"the model {model} has no option {name!r}", hint=f"it has: {known}")
    recorded = history if isinstance(history, History) else History(history)
    intervals = recorded.intervals
    return chosen.decide(intervals, **options).of(model=model, checked=len(intervals))
