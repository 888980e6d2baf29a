"""What etcd's errors mean for the operation that they end. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from ...errors import CoterieError, LeaseLost, Outcome, PermissionDenied, TooLarge, Unavailable

__all__ = ["Compacted", "Verdict", "judge"]

_Code = grpc.StatusCode
_NEVER_SENT = (
    "failed to connect",
    "name resolution",
    "dns resolution",
    "connections to all backends failing",
)
_OLD_TOKEN = ("invalid auth token", "revision of auth store is old", "auth token is not provided")
_TOO_LARGE = ("request is too large", "too many operations in txn", "message larger than max")


class Compacted(Exception):
    """The revision that was asked for is no longer kept."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a failed attempt: raise `error`, or try again after it."""

    error: Exception
    outcome: Outcome
    """Of this attempt."""
    again: bool = False
    """Whether another attempt may do, if this one was not applied or may be applied twice."""
    log_in: bool = False
    """Whether a new token is needed for that."""
    leave: bool = False
    """Whether another member should be asked."""


def judge(code: grpc.StatusCode, details: str, place: str) -> Verdict:
    """Return what an error of a member means."""
    text = f"etcd at {place}: {details or code.name}"
    said = details.lower()
    none = Outcome.NOT_APPLIED
    if code is _Code.UNAVAILABLE:
        # `no leader` is said before a call is looked at, since all ask for a member with a leader.
        sent = not any(words in said for words in (*_NEVER_SENT, "etcdserver: no leader"))
        outcome = Outcome.UNKNOWN if sent else none
        hint = "is it running, and can this machine reach it?"
        return Verdict(Unavailable(text, hint=hint, outcome=outcome), outcome, again=True, leave=True)
    if code in {_Code.DEADLINE_EXCEEDED, _Code.CANCELLED, _Code.UNKNOWN, _Code.INTERNAL}:
        return Verdict(Unavailable(text), Outcome.UNKNOWN, again=True, leave=True)
    if any(words in said for words in _TOO_LARGE):
        hint = "write less in one commit, or raise the server's --max-request-bytes or --max-txn-ops"
        return Verdict(TooLarge(text, hint=hint), none)
    if any(words in said for words in _OLD_TOKEN):
        return Verdict(PermissionDenied(text), none, again=True, log_in=True)
    error = _refusal(code, said, text)
    return Verdict(error, none, again="too many requests" in said)


def _refusal(code: grpc.StatusCode, said: str, text: str) -> CoterieError | Compacted:
    if code is _Code.NOT_FOUND and "lease" in said:
        return LeaseLost("the lease has ended", hint="grant a new one and write its entries again")
    if "compacted" in said:
        return Compacted()
    if "user name is empty" in said or "authentication failed" in said or code is _Code.UNAUTHENTICATED:
        return PermissionDenied(text, hint="look at the user and the password of the URL")
    if code is _Code.PERMISSION_DENIED:
        return PermissionDenied(text, hint="grant the user's role what it needs under the engine's prefix")
    if "space exceeded" in said:
        return Unavailable(text, hint="compact, defragment and disarm the alarm", outcome=Outcome.NOT_APPLIED)
    return Unavailable(text, outcome=Outcome.NOT_APPLIED)
