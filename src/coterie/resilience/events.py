"""What policies do, for whoever wants to know: telemetry, tests, a person who watches.

Nothing is built as long as nobody listens.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Listener", "PolicyEvent", "PolicyEventKind"]


class PolicyEventKind(enum.StrEnum):
    """What happened."""

    ATTEMPT = "attempt"
    """An attempt begins, the first one or a later one."""
    RETRY = "retry"
    """A failed attempt is repeated."""
    BUDGET_SPENT = "budget_spent"
    """A failed attempt would have been repeated, but the budget was spent."""
    HEDGE = "hedge"
    """A second attempt was started beside one that takes longer than usual."""
    OPEN = "open"
    """A breaker opened."""
    HALF_OPEN = "half_open"
    CLOSED = "closed"
    EJECT = "eject"
    """A target is left out."""
    SHED = "shed"
    """A call was refused because too many were under way or waited."""
    LIMITED = "limited"
    """A call was refused because its rate was used up."""


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """One thing that a policy did."""

    kind: PolicyEventKind
    name: str
    """Whose policy: `Service.method`, or the name that a guard was given."""
    target: str = ""
    """The address that it is about, if any."""
    attempt: int = 0
    detail: str = ""


Listener = Callable[[PolicyEvent], None]
