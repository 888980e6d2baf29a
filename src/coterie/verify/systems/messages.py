"""What a process that has an engine open and the one that asks it say to each other. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from ... import errors
from ...errors import CoterieError, Outcome
from ...ports.log import Bounds, LogGuarantees, Record, Segment
from ...ports.store import Commit, Entry, Page, StoreGuarantees

__all__ = [
    "METHODS",
    "Answer",
    "Facts",
    "Question",
    "error_of",
    "read_answer",
    "read_question",
    "refusal",
]


class Facts(msgspec.Struct, frozen=True):
    """What a process says of its engine when that is open."""

    store: StoreGuarantees
    log: LogGuarantees | None


METHODS: Mapping[str, tuple[tuple[Any, ...], Any]] = MappingProxyType(
    {
        "facts": ((), Facts),
        "role": ((), str),
        "store.get": ((str,), Entry | None),
        "store.scan": ((str, str, int), Page),
        "store.commit": ((Commit,), int),
        "store.grant": ((float,), int),
        "store.renew": ((int,), None),
        "store.revoke": ((int,), None),
        "log.create": ((str, int), None),
        "log.append": ((str, int, list[Record]), int),
        "log.read": ((str, int, int, int), Segment),
        "log.bounds": ((str, int), Bounds),
        "log.delete": ((str,), None),
    }
)
"""The types of the arguments and of the result of each method."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """A call: `number` is unique at its process."""

    number: int
    method: str
    arguments: tuple[Any, ...] = ()


class Answer(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The result of a call, or the error that it ended with."""

    number: int
    result: Any = None
    code: str = ""
    message: str = ""
    outcome: str = ""


_CLASSES = {
    cls.code: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, CoterieError) and cls is not CoterieError
}


def read_question(data: bytes) -> Question:
    """Return the question in `data`, with its arguments in their types."""
    asked = msgspec.msgpack.decode(data, type=Question)
    types, _ = METHODS[asked.method]
    arguments = tuple(
        msgspec.convert(argument, into) for argument, into in zip(asked.arguments, types, strict=True)
    )
    return Question(asked.number, asked.method, arguments)


def read_answer(data: bytes) -> Answer:
    """Return the answer in `data`; its result has yet to be converted."""
    return msgspec.msgpack.decode(data, type=Answer)


def refusal(number: int, error: CoterieError) -> Answer:
    """Return what is answered when a call raised `error`."""
    return Answer(number, code=error.code, message=error.message, outcome=error.outcome.value)


def error_of(answer: Answer) -> CoterieError:
    """Return the error that an answer tells of."""
    return _CLASSES.get(answer.code, CoterieError)(answer.message, outcome=Outcome(answer.outcome))
