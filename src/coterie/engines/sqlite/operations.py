"""What the writer is asked to do, and what comes of it: the same in process and between processes."""

from __future__ import annotations

from typing import Any

import msgspec

from ... import errors as _errors
from ...errors import CoterieError, Outcome, Overloaded
from ...ports.log import Record
from ...ports.store import Commit

__all__ = [
    "Append",
    "CreateTopic",
    "DeleteTopic",
    "DoCommit",
    "Expire",
    "Failed",
    "Grant",
    "Operation",
    "Renew",
    "Result",
    "Revoke",
    "Trim",
    "error_of",
    "failed",
    "overloaded",
]


class DoCommit(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    """Results in the commit's revision."""

    commit: Commit


class Grant(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Results in the lease's id."""

    ttl_s: float


class Renew(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    lease: int


class Revoke(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    lease: int


class Expire(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """End the leases whose time is over. Results in their number. Only the writer's own process asks it."""


class CreateTopic(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    topic: str
    partitions: int


class DeleteTopic(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    topic: str


class Append(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=7):
    """Results in the offset of the last record."""

    topic: str
    partition: int
    records: tuple[Record, ...]


class Trim(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=8):
    topic: str
    partition: int
    before: int


Operation = DoCommit | Grant | Renew | Revoke | Expire | CreateTopic | DeleteTopic | Append | Trim


class Failed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why an operation was refused. `outcome` is a value of `Outcome`."""

    code: str
    message: str
    hint: str | None
    outcome: str


Result = int | Failed

_BY_CODE: dict[str, type[CoterieError]] = {
    cls.code: cls for cls in vars(_errors).values() if isinstance(cls, type) and issubclass(cls, CoterieError)
}


def failed(error: CoterieError) -> Failed:
    """Return `error` as a result."""
    return Failed(error.code, error.message, error.hint, error.outcome.value)


def error_of(result: Failed) -> CoterieError:
    """Return the error that `result` stands for."""
    cls: Any = _BY_CODE.get(result.code, CoterieError)
    error: CoterieError = cls(result.message, hint=result.hint, outcome=Outcome(result.outcome))
    return error


def overloaded(waiting: int) -> Overloaded:
    """Return the error of an operation that is one too many."""
    return Overloaded(f"{waiting} operations wait to be written", hint="write less at once")
