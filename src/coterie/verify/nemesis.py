"""Does the faults of a plan to the members of a system, one after the other, and undoes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import CoterieError, Outcome, Unavailable
from .plan import Fault
from .systems.system import Victim

__all__ = ["Done", "Nemesis"]

_NO_LEADER = -1
_HEALINGS = 2


@dataclass(slots=True)
class Done:
    """A fault that was done, or tried: from when until when, in seconds of the run, and to whom."""

    kind: str
    member: int
    leader: bool
    """Whether the member was the leader."""
    cut: str
    start_s: float
    end_s: float | None = None
    """None while it lasts, and of one that the end of the run undid."""
    happened: bool = False
    """Whether the member has felt it, or may have: only then does it excuse anything."""
    trouble: str = ""
    """What went wrong when it was done or undone."""

    def __str__(self) -> str:
        how = f" ({self.cut})" if self.cut else ""
        return f"{self.kind}{how} of member {self.member}{', the leader' if self.leader else ''}"


class Nemesis:
    """Belongs to one run. `now` returns seconds of the run."""

    def __init__(self, victim: Victim, plan: Sequence[Fault], now: Callable[[], float]) -> None:
        self._victim = victim
        self._plan = plan
        self._now = now
        self._over = asyncio.Event()
        self.done: list[Done] = []

    @property
    def current(self) -> Done | None:
        """The fault that lasts now."""
        return self.done[-1] if self.done and self.done[-1].end_s is None else None

    async def run(self) -> None:
        """Do all faults, each not before its time. Trouble with one is noted, and the next is tried."""
        for fault in self._plan:
            await self._sleep(max(0.0, fault.at_s - self._now()))
            if self._over.is_set():
                return
            done = await self._aim(fault)
            self.done.append(done)
            try:
                await self._do(fault, done)
            except CoterieError as error:
                done.trouble = error.message.partition("\n")[0]
                done.happened |= error.outcome is Outcome.UNKNOWN
            done.end_s = self._now()

    def finish(self) -> None:
        """Have `run` undo what it has done and return: what is half done would be hard to heal."""
        self._over.set()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    async def restore(self) -> str:
        """Make everything well again, and return what went wrong with that, if anything did."""
        current = self.current
        trouble = ""
        for _ in range(_HEALINGS):
            try:
                await self._victim.heal()
                trouble = ""
                break
            except CoterieError as error:  # a member that ended just now is started at the second try
                trouble = error.message
        if current is not None:
            current.end_s = self._now()
        return trouble

    async def _aim(self, fault: Fault) -> Done:
        victim = self._victim
        try:
            leader = await victim.leader()
        except CoterieError:
            leader = _NO_LEADER
        member = leader if fault.aim == "leader" else int(fault.aim) % victim.size
        if member == _NO_LEADER:
            member = next((one for one in range(victim.size) if victim.running(one)), 0)
        return Done(
            kind=fault.kind, member=member, leader=member == leader, cut=fault.cut, start_s=self._now()
        )

    async def _do(self, fault: Fault, done: Done) -> None:
        victim, member = self._victim, done.member
        if fault.kind == "kill":
            await victim.kill(member)
            done.happened = True
            await self._sleep(fault.duration_s)
            await victim.start(member)
        elif fault.kind == "restart":
            await victim.stop(member)
            done.happened = True
            await victim.start(member)
        elif fault.kind == "pause":
            await victim.pause(member)
            done.happened = True
            await self._sleep(fault.duration_s)
            await victim.resume(member)
        elif fault.kind == "partition":
            await victim.cut(member, fault.cut)
            done.happened = True
            await self._sleep(fault.duration_s)
            await victim.heal()
        else:
            await self._fail_over(fault, done)

    async def _fail_over(self, fault: Fault, done: Done) -> None:
        """Lose a primary as its machine's network would, and promote a replica as an operator would.

        It goes on acknowledging writes that no replica has until it is switched off.
        """
        victim, primary = self._victim, done.member
        await victim.cut(primary, "alone")
        await self._sleep(fault.duration_s)
        await victim.kill(primary)
        replicas = [one for one in range(victim.size) if one != primary and victim.running(one)]
        if not replicas:
            raise Unavailable("no replica runs that could be promoted", outcome=Outcome.NOT_APPLIED)
        done.happened = True
        await victim.promote(replicas[0])
        await victim.heal()
