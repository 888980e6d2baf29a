"""`coordinated:locked` with leases that all have the token 1."""

from __future__ import annotations

from typing import Any

from coordinated import locked as app

from coterie.coordination import Lease
from coterie.coordination.session import Session

__all__ = ["app"]

if "same" not in Lease.__init__.__name__:  # Each host loads this module.
    begin = Lease.__init__

    def same_tokens(self: Lease, name: str, session: Session, key: str, token: int, **others: Any) -> None:
        begin(self, name, session, key, 1, **others)

    Lease.__init__ = same_tokens  # type: ignore[method-assign,assignment]
    Lease.checks = property(lambda self: ())  # type: ignore[assignment,method-assign]
