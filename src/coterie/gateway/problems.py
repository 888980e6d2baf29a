"""Errors as problem details (RFC 9457) with the right HTTP status.

A client learns what was wrong, whether it may have happened all the same (`outcome`), and what to
do (`hint`). It never learns the trace of an error that nobody declared: that is logged, under an
identifier that the client gets.
"""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import ClassVar

import msgspec

from ..codec import type_name
from ..errors import (
    Conflict,
    CoterieError,
    DeadlineExceeded,
    InvalidArgument,
    KeyReused,
    LeaseLost,
    NotFound,
    NotRunning,
    Outcome,
    Overloaded,
    PermissionDenied,
    RateLimited,
    TooLarge,
    Unavailable,
)
from ..services.spec import MethodSpec
from .backend import DeclaredErrors

__all__ = [
    "STATUSES",
    "ArgumentFault",
    "BadArguments",
    "HttpError",
    "Problem",
    "argument_fault",
    "internal_problem",
    "problem_of",
]

Headers = list[tuple[bytes, bytes]]

STATUSES: dict[type[CoterieError], int] = {
    InvalidArgument: 400,
    PermissionDenied: 403,
    NotFound: 404,
    Conflict: 409,
    KeyReused: 422,  # As the draft of the Idempotency-Key header has it.
    LeaseLost: 409,
    TooLarge: 413,
    NotRunning: 503,
    RateLimited: 429,
    Overloaded: 503,
    Unavailable: 503,
    DeadlineExceeded: 504,
}
"""The status of an error and of its subclasses, the nearest one first; 500 for all others."""

RETRY_AFTER_S = 1
"""What a refused client is told to wait where nobody knows better: long enough for a failover."""


class ArgumentFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with one argument."""

    parameter: str
    """The parameter, or the name that is not one; empty when the body as a whole is wrong."""
    pointer: str
    """Where in the body, as a JSON pointer in a URI fragment (RFC 6901)."""
    message: str
    expected: str = ""
    """The type that was expected there."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every response that is not a result."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """The stable name of the error: a code of `coterie.errors`, or the name of a declared error."""
    outcome: str
    """`not_applied`: it certainly did not happen. `unknown`: it may have happened."""
    hint: str | None = None
    instance: str | None = None
    """The identifier under which the node logged an internal error."""
    errors: tuple[ArgumentFault, ...] = ()


class HttpError(CoterieError):
    """Something that is wrong with a request as HTTP, before it is a call."""

    code: ClassVar[str] = "http"
    default_outcome = Outcome.NOT_APPLIED

    def __init__(
        self, status: int, message: str, *, hint: str | None = None, headers: Headers | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.headers: Headers = headers or []


class BadArguments(InvalidArgument):
    """The arguments of a call are not what its method takes."""

    def __init__(
        self, message: str, *, hint: str | None = None, faults: tuple[ArgumentFault, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


def problem_of(error: BaseException, declared: DeclaredErrors) -> tuple[Problem, Headers] | None:
    """Return the problem that tells a client of `error`, and the headers that go with it.

    None when the error is internal: then `internal_problem` tells of it without telling what it was.
    """
    if isinstance(error, HttpError):
        phrase = HTTPStatus(error.status).phrase
        return _problem(
            error, error.status, phrase.lower().replace(" ", "_").replace("-", "_")
        ), error.headers
    found = declared.find(error)
    if found is not None:
        name, status = found
        return _declared_problem(error, name, status), []
    if not isinstance(error, CoterieError):
        return None
    for cls in type(error).__mro__:
        if cls in STATUSES:
            status = STATUSES[cls]
            return _problem(error, status, error.code), _retry_after(error) if status in {429, 503} else []
    return None


def _retry_after(error: CoterieError) -> Headers:
    # Whole seconds, rounded up: a client that comes back sooner is refused again.
    seconds = RETRY_AFTER_S if error.retry_after_s is None else max(1, math.ceil(error.retry_after_s))
    return [(b"retry-after", b"%d" % min(seconds, 86400))]


def internal_problem(identifier: str) -> Problem:
    """Return the problem that tells of an error that was logged under `identifier`."""
    return Problem(
        type="urn:coterie:error:internal",
        title="Internal error",
        status=500,
        detail="The service failed with an error that it does not declare.",
        code="internal",
        outcome=Outcome.UNKNOWN.value,
        hint=f"look for {identifier} in the log of the node",
        instance=f"urn:coterie:log:{identifier}",
    )


def _problem(error: CoterieError, status: int, code: str) -> Problem:
    return Problem(
        type=f"urn:coterie:error:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=error.message or (type(error).__doc__ or "").partition("\n")[0],
        code=code,
        outcome=error.outcome.value,
        hint=error.hint,
        errors=error.faults if isinstance(error, BadArguments) else (),
    )


def _declared_problem(error: BaseException, name: str, status: int) -> Problem:
    # A declared error may be a CoterieError as well, and then knows its outcome. Of any other one
    # only the program knows whether it had an effect before.
    outcome = error.outcome if isinstance(error, CoterieError) else Outcome.UNKNOWN
    title = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).capitalize()
    return Problem(
        type=f"urn:coterie:error:{name}",
        title=title,
        status=status,
        detail=error.message if isinstance(error, CoterieError) else str(error),
        code=name,
        outcome=outcome.value,
        hint=error.hint if isinstance(error, CoterieError) else None,
    )


_PATH = re.compile(r" - at `(?P<path>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`")
_EXPECTED = re.compile(r"Expected `(?P<type>[^`]*)`")
_STEP = re.compile(r"\.([^.\[]+)|\[([^\]]*)\]")


def argument_fault(method: MethodSpec, error: msgspec.ValidationError) -> ArgumentFault:
    """Return which argument of `method` msgspec refused, and why, read off its message."""
    text = str(error)
    at = _PATH.search(text)
    steps = [name or index for name, index in _STEP.findall(at["path"])] if at else []
    message = text[: at.start()] if at else text
    missing, unknown = _MISSING.match(message), _UNKNOWN.match(message)
    named = missing or unknown
    if named is not None:
        steps.append(named["name"])
    parameter = steps[0] if steps else ""
    expected = _EXPECTED.match(message)
    kind = expected["type"] if expected else ""
    if missing and len(steps) == 1:
        kind = next((type_name(p.type) for p in method.parameters if p.name == parameter), "")
        message = f"the parameter `{parameter}` is missing"
    elif unknown and len(steps) == 1:
        message = f"there is no parameter `{parameter}`"
    elif not steps:
        kind = kind or "object"
    # A path of msgspec says [...] for "some key or item"; a pointer says - for what has no index.
    pointer = "#" + "".join("/" + _escaped("-" if step == "..." else step) for step in steps)
    return ArgumentFault(parameter=parameter, pointer=pointer, message=message, expected=kind)


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")
