"""Gives up calls that a change of the leader has swallowed.

A member hands what it is asked to the leader that it knows of. If that one is dead nobody answers, and the
member says so after seven seconds, though another leader is elected after one or two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .messages import term_of

__all__ = ["Sent", "Watchdog"]

_TICK_S = 0.15
_SLOW_S = 0.3


@dataclass(slots=True, eq=False)
class Sent:
    """A call that a member has not answered."""

    member: int
    call: Any
    since: float
    before: bytes
    """The response that came last before it was sent, which tells the term of then."""
    suspected: bool = False
    given_up: bool = False


class Watchdog:
    """Looks at the calls under way, and asks their members for the term where one takes long.

    Belongs to one client. `ask` returns a response of a member that knows a leader, or nothing.
    """

    def __init__(self, ask: Callable[[int], Awaitable[bytes]]) -> None:
        self.newest: bytes = b""
        """The response that came last."""
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._sent: dict[Sent, None] = {}
        self._task: asyncio.Task[None] | None = None

    def began(self, member: int, call: Any) -> Sent:
        """Look after a call, which is cancelled with `given_up` set when its leader is no longer."""
        sent = Sent(member, call, self._loop.time(), self.newest)
        self._sent[sent] = None
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="coterie-etcd-watchdog")
        return sent

    def ended(self, sent: Sent) -> None:
        """Look no longer after a call."""
        del self._sent[sent]

    async def close(self) -> None:
        """End. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        try:
            while self._sent:
                await asyncio.sleep(_TICK_S)
                now = self._loop.time()
                slow = {sent.member for sent in self._sent if now - sent.since > _SLOW_S}
                for member in slow:
                    self._judge(member, term_of(await self._ask(member)), asked_at=now)
        finally:
            self._task = None

    def _judge(self, member: int, term: int, *, asked_at: float) -> None:
        """Give up what was asked in an earlier term, at the second look: the answer may be on its way."""
        for sent in tuple(self._sent):
            if sent.member != member or sent.since >= asked_at - _SLOW_S or term <= term_of(sent.before):
                continue
            if sent.suspected:
                sent.given_up = True
                sent.call.cancel()
            sent.suspected = True
