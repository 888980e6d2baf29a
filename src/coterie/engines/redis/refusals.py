"""The server's errors in the words of the ports, each with its outcome.

Redis checks what its errors stand for before it runs a script, so a refusal had no effect.
"""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from ...errors import (
    CorruptData,
    CoterieError,
    InvalidConfiguration,
    Outcome,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    Unavailable,
)

__all__ = ["connection_error", "demoted", "refusal"]

_BEFORE_IT_BEGAN = ("LOADING", "MASTERDOWN", "NOREPLICAS", "MISCONF", "BUSY", "TRYAGAIN")
_OF_A_CLUSTER = ("MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN")
_RIGHTS = "the user needs all commands of the engine on the keys of its prefix; see ACL SETUSER"
_OF_LOGINS = ("NOAUTH", "WRONGPASS", "NOPERM")


def demoted(error: ResponseError) -> bool:
    """Whether the server says that it is no primary."""
    return isinstance(error, ReadOnlyError) or str(error).startswith("READONLY")


def refusal(error: ResponseError, place: str) -> CoterieError:
    """Return what an error that the server answered with is to a caller."""
    text = str(error)
    if isinstance(error, NoPermissionError | AuthenticationError) or text.startswith(_OF_LOGINS):
        return PermissionDenied(f"{place} refuses this: {text}", hint=_RIGHTS)
    if text.startswith("ACL failure in script"):
        # The rights were looked at when the engine opened. Taken away since, they may end a script halfway.
        return PermissionDenied(f"{place} refuses this: {text}", hint=_RIGHTS, outcome=Outcome.UNKNOWN)
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        return Overloaded(f"{place} is out of memory: {text}")
    if demoted(error):
        return Unavailable(
            f"{place} is a replica now",
            hint="name the primary: a replica may be late",
            outcome=Outcome.NOT_APPLIED,
        )
    if text.startswith(_BEFORE_IT_BEGAN) or type(error).__name__ == "BusyLoadingError":
        return Unavailable(f"{place} takes no commands now: {text}", outcome=Outcome.NOT_APPLIED)
    if text.startswith(_OF_A_CLUSTER):
        return InvalidConfiguration(f"{place} is part of a Redis Cluster", hint="name one server by itself")
    if "WRONGTYPE" in text:
        return CorruptData(
            f"{place} holds other data under this prefix: {text}",
            hint="choose another with ?prefix=",
            outcome=Outcome.UNKNOWN,
        )
    return ProtocolError(f"{place} answered: {text}")


def connection_error(error: BaseException, place: str) -> CoterieError:
    """Return what it is to a caller that no connection came about."""
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return PermissionDenied(f"{place} does not let us in: {error}", hint="is the URL's password right?")
    if isinstance(error, ResponseError):
        return refusal(error, place)
    if isinstance(error, TimeoutError):
        return Unavailable(f"{place} does not answer in time", outcome=Outcome.NOT_APPLIED)
    kind = "" if isinstance(error, RedisError) else f"{type(error).__name__}: "
    return Unavailable(
        f"{place} cannot be reached: {kind}{error}",
        outcome=Outcome.NOT_APPLIED,
        hint="is it running, and is the URL right?",
    )
