"""Every error that Coterie raises, each with the outcome of the operation that raised it.

The one question a caller in a distributed system must be able to answer after a failure is
"did it happen?". So each error carries an `outcome`: `NOT_APPLIED` says that the operation
certainly had no effect and may be repeated, `UNKNOWN` says that it may or may not have had one.
A timeout is unknown.
"""

from __future__ import annotations

import enum
from typing import ClassVar

__all__ = [
    "AlreadyExists",
    "Conflict",
    "CorruptData",
    "CoterieError",
    "DeadlineExceeded",
    "Fenced",
    "InvalidArgument",
    "InvalidConfiguration",
    "KeyReused",
    "LeaseLost",
    "NotFound",
    "NotRunning",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "ProtocolError",
    "RateLimited",
    "RemoteError",
    "TooLarge",
    "Unavailable",
    "Unsupported",
]


class Outcome(enum.StrEnum):
    """Whether a failed operation may have had an effect."""

    NOT_APPLIED = "not_applied"
    """It certainly did not happen; repeating it is safe."""

    UNKNOWN = "unknown"
    """It may have happened; repeat it only if it is idempotent."""


class CoterieError(Exception):
    """The root of all errors that Coterie raises.

    `message` says what was wrong, `hint` what to do about it. `outcome` defaults to that of the
    class and can be made more precise for one instance.
    """

    code: ClassVar[str] = "error"
    """A stable identifier, used on the wire, in problem+json and in metrics."""

    default_outcome: ClassVar[Outcome] = Outcome.UNKNOWN

    retry_after_s: float | None = None
    """How long to wait at least before trying again, in seconds, where whoever refused could tell."""

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        outcome: Outcome | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.outcome: Outcome = outcome if outcome is not None else self.default_outcome
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.outcome), self.__dict__)


def _rebuild(cls: type[CoterieError], message: str, hint: str | None, outcome: Outcome) -> CoterieError:
    return cls(message, hint=hint, outcome=outcome)


class Unavailable(CoterieError):
    """The system cannot answer and be sure that the answer is right, so it refuses to answer."""

    code = "unavailable"


class DeadlineExceeded(CoterieError):
    """The time that the caller allowed is over. The work may still have been done."""

    code = "deadline_exceeded"


class Conflict(CoterieError):
    """What the operation expected was no longer so: somebody else was first."""

    code = "conflict"
    default_outcome = Outcome.NOT_APPLIED


class Fenced(Conflict):
    """A later fencing token has been seen: the caller is no longer the holder of its lock or lease."""

    code = "fenced"


class AlreadyExists(Conflict):
    """What was to be created exists already."""

    code = "already_exists"


class KeyReused(Conflict):
    """The idempotency key belongs to a call of the same method with other arguments."""

    code = "key_reused"


class LeaseLost(CoterieError):
    """The lease has expired or was revoked; whatever it protected may have another holder."""

    code = "lease_lost"
    default_outcome = Outcome.NOT_APPLIED


class Overloaded(CoterieError):
    """Refused at once because a bound was reached; try again later."""

    code = "overloaded"
    default_outcome = Outcome.NOT_APPLIED


class RateLimited(Overloaded):
    """The caller has used up what it may use for now; `retry_after_s` says when there is more."""

    code = "rate_limited"


class NotFound(CoterieError):
    """There is no such thing."""

    code = "not_found"
    default_outcome = Outcome.NOT_APPLIED


class InvalidArgument(CoterieError, ValueError):
    """The caller passed something that cannot be right. The message says what was expected."""

    code = "invalid_argument"
    default_outcome = Outcome.NOT_APPLIED


class TooLarge(InvalidArgument):
    """A key, value, frame or body is larger than its limit."""

    code = "too_large"


class InvalidConfiguration(CoterieError, ValueError):
    """The program or its configuration cannot be run as it stands."""

    code = "invalid_configuration"
    default_outcome = Outcome.NOT_APPLIED


class Unsupported(InvalidConfiguration):
    """A declaration needs a guarantee that the chosen engine does not give."""

    code = "unsupported"


class PermissionDenied(CoterieError):
    """The caller is not who it must be to do this."""

    code = "permission_denied"
    default_outcome = Outcome.NOT_APPLIED


class NotRunning(CoterieError, RuntimeError):
    """A handle was used outside of a running node or connection."""

    code = "not_running"
    default_outcome = Outcome.NOT_APPLIED


class ProtocolError(CoterieError):
    """The peer broke the protocol: a malformed, oversized or unexpected frame."""

    code = "protocol_error"


class CorruptData(CoterieError):
    """Stored data is not what was written, or was written by a newer version."""

    code = "corrupt_data"
    default_outcome = Outcome.NOT_APPLIED


class RemoteError(CoterieError):
    """A call raised an error, at the other end, of a type that is not declared on this one.

    `type_name` is the qualified name of the remote type and `remote_traceback` the remote trace as text.
    """

    code = "remote_error"

    def __init__(
        self,
        message: str = "",
        *,
        type_name: str = "",
        remote_traceback: str = "",
        hint: str | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(message, hint=hint, outcome=outcome)
        self.type_name = type_name
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        head = f"{self.type_name}: {self.message}" if self.type_name else self.message
        return f"{head}\n\nRemote traceback:\n{self.remote_traceback}" if self.remote_traceback else head
