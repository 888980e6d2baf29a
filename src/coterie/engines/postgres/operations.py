"""Turns operations into the steps of a batch, and the answer of a batch into results. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import Conflict, CoterieError, Fenced, InvalidArgument, LeaseLost
from ...ports.store import Commit
from .functions import KIND
from .lane import Answer

__all__ = ["EXPIRE", "Operation", "grant", "pack", "pack_put", "renew", "revoke", "steps_of", "unpack"]

Step = tuple[int, str | None, int | None, bytes | None]
Operation = Sequence[Step]
"""Steps in the order in which they are done; nothing is written before everything was checked."""

_END: Step = (KIND.END, None, None, None)
_BEYOND = 2**63
EXPIRE: Operation = ((KIND.EXPIRE, None, None, None), _END)


def steps_of(commit: Commit) -> Operation:
    """Return the steps of a valid commit. Raises `InvalidArgument` for numbers that no column can hold."""
    leases = {put.lease for put in commit.puts if put.lease}
    return [
        *((KIND.FENCE, fence.name, _number(fence.token, "a fencing token"), None) for fence in commit.fences),
        *((KIND.CHECK, check.key, _number(check.version, "a version"), None) for check in commit.checks),
        *((KIND.ALIVE, None, _number(lease, "a lease"), None) for lease in leases),
        *((KIND.PUT, put.key, put.lease, put.value) for put in commit.puts),
        *((KIND.DELETE, key, None, None) for key in commit.deletes),
        *((KIND.TOKEN, fence.name, fence.token, None) for fence in commit.fences),
        _END,
    ]


def grant(ttl_s: float) -> Operation:
    """Return the steps that grant a lease; its time is rounded up to microseconds."""
    return ((KIND.GRANT, None, -int(-ttl_s * 1_000_000 // 1), None), _END)


def renew(lease: int) -> Operation:
    """Return the steps that renew a lease."""
    return ((KIND.RENEW, None, lease, None), _END)


def revoke(lease: int) -> Operation:
    """Return the steps that end a lease."""
    return ((KIND.REVOKE, None, lease, None), _END)


def _number(value: object, what: str) -> int:
    if type(value) is not int or not -_BEYOND <= value < _BEYOND:
        raise InvalidArgument(f"{what} is an int of 64 bits, not {value!r}")
    return value


def pack(kept_revisions: int, operations: Sequence[Operation]) -> tuple[Any, ...]:
    """Return the columns of all steps."""
    steps = [step for operation in operations for step in operation]
    return (kept_revisions, *zip(*steps, strict=True))


def pack_put(kept_revisions: int, operation: Operation) -> tuple[Any, ...] | None:
    """Return the values for the function `put` if that can do the operation, else None."""
    match operation:
        case [(KIND.PUT, key, 0, value), _]:
            return kept_revisions, key, None, value
        case [(KIND.CHECK, checked, version, _), (KIND.PUT, key, 0, value), _] if checked == key:
            # No key is at a negative version, which `apply` says.
            return (kept_revisions, key, version, value) if version is not None and version >= 0 else None
    return None


def unpack(operations: Sequence[Operation], answer: Answer) -> list[int | Exception]:
    """Return each operation's number, or the error that it ends with."""
    results: list[int | Exception] = []
    codes, numbers, _revision = answer
    start = 0
    for operation, code, number in zip(operations, codes, numbers, strict=True):
        results.append(_error(operation[code - start - 1], number) if code else number)
        start += len(operation)
    return results


def _error(step: Step, found: int) -> CoterieError:
    kind, name, number, _ = step
    if kind == KIND.CHECK:
        return Conflict(f"{name!r} is at version {found}, not {number}")
    if kind == KIND.FENCE:
        return Fenced(f"the fence {name!r} has seen token {found}, later than {number}")
    return LeaseLost(f"the lease {number} has ended", hint="grant a new one and write its entries again")
