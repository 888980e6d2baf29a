"""Carries a run out: clients, faults, healing, the last reads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..engines.system import SystemClock, SystemEntropy
from ..errors import CoterieError, InvalidArgument
from ..history import Recorder
from .config import VerifyConfig
from .nemesis import Done, Nemesis
from .plan import Fault, plan_faults, random_for
from .session import Open, Session
from .systems.system import System
from .terms import Terms
from .workload import Action, User, Workload
from .workloads import WORKLOADS

__all__ = ["Crew", "Run"]

_PATIENCE_S = 15.0
"""How long a client may take to end what it has begun, when the time is over."""
_TRIES_OF_LAST_READS = 20
_BETWEEN_TRIES_S = 0.3


@dataclass(slots=True)
class Crew:
    """The clients of one workload, and what they recorded."""

    workload: Workload
    recorder: Recorder
    users: list[User]
    used: list[Action] = field(default_factory=list)
    """What was begun: the last reads look at all of it."""
    stuck: list[str] = field(default_factory=list)
    """The processes that did not succeed again after the faults."""
    recovered_s: float | None = None
    """How long after the healing the last of them had succeeded."""


class Run:
    """One run on a system that is up. `phase` and the counts may be looked at while it goes on."""

    def __init__(
        self, config: VerifyConfig, system: System, opener: Open, plan: Sequence[Fault] | None = None
    ) -> None:
        self.config: VerifyConfig = config
        self.system: System = system
        self.phase: str = "starting"
        self.crews: list[Crew] = []
        self.left_out: dict[str, str] = {}
        """Workloads and faults that cannot be done, and why."""
        self.terms: Terms | None = None
        self.worked_s: float = 0.0
        """How long there were clients and faults."""
        self.trouble: str = ""
        """What could not be made well again."""
        self._clock = SystemClock()  # the loop's own clock may go by milliseconds
        self._begun_s = self._clock.monotonic()
        self._stop = asyncio.Event()
        self.plan: tuple[Fault, ...] = self._plan() if plan is None else tuple(plan)
        victim = system.victim
        self.nemesis: Nemesis | None = Nemesis(victim, self.plan, self.now) if victim is not None else None
        prefix = f"verify/{SystemEntropy().identifier()}"
        self._sessions = [Session(system, n, prefix, opener) for n in range(config.clients)]

    def now(self) -> float:
        """Return the seconds of the run."""
        return self._clock.monotonic() - self._begun_s

    def _now_ns(self) -> int:
        return int(self.now() * 1e9)

    @property
    def faults(self) -> Sequence[Done]:
        """What was done to the members until now."""
        return () if self.nemesis is None else self.nemesis.done

    @property
    def counts(self) -> Counter[str]:
        """How many operations are ok, failed and unknown until now."""
        return sum((user.counts for crew in self.crews for user in crew.users), Counter())

    @property
    def interrupted(self) -> bool:
        """Whether the run was ended before its time."""
        return self._stop.is_set()

    def interrupt(self) -> None:
        """End the run soon, with what has been recorded."""
        self._stop.set()

    async def carry_out(self) -> None:
        """Do all of it. Raises what opening raises, and `InvalidArgument` if there is nothing to do."""
        try:
            await self._prepare()
            self.phase = "faults" if self.plan else "work"
            await self._work()
            self.phase = "healing"
            if self.nemesis is not None:
                self.trouble = await self.nemesis.restore()
            if not self.interrupted:
                self.phase = "recovery"
                await asyncio.gather(*map(self._recover, self.crews))
            if not self.interrupted:
                self.phase = "last reads"
                await asyncio.gather(*map(self._close_crew, self.crews))
        finally:
            self.phase = "ending"
            await asyncio.shield(self._end())

    def _plan(self) -> tuple[Fault, ...]:
        config, possible = self.config, self.system.faults
        for kind in config.faults:
            if kind not in possible:
                self.left_out[kind] = f"cannot be done to {self.system.name}"
        kinds = [kind for kind in config.faults if kind in possible]
        members = 1 if self.system.victim is None else self.system.victim.size
        return plan_faults(config.seed, kinds, time_s=config.time_s, members=members)

    async def _prepare(self) -> None:
        config = self.config
        opened = [await session.open() for session in self._sessions]
        self.terms = opened[0].terms
        offers = opened[0].target.offers
        chosen = [WORKLOADS[name] for name in config.workloads if name in offers]
        self.left_out |= {
            name: f"not offered by {self.system.name}{' (raw)' if config.raw else ''}"
            for name in config.workloads
            if name not in offers
        }
        if not chosen:
            raise InvalidArgument(
                f"{self.system.name} offers none of the workloads {', '.join(config.workloads)}",
                hint=f"it offers {', '.join(sorted(offers))}",
            )
        await opened[0].target.prepare()
        self._begun_s = self._clock.monotonic()
        for workload in chosen:
            recorder = Recorder(self._now_ns)
            users = [workload.user(workload.name, n, recorder) for n in range(config.clients)]
            self.crews.append(Crew(workload, recorder, users))

    async def _work(self) -> None:
        clients = [asyncio.create_task(self._use(crew, user)) for crew in self.crews for user in crew.users]
        stopping = asyncio.create_task(self._stop.wait())
        faults = asyncio.create_task(self._do_faults())
        try:
            # A client that ends before the time is over has failed, and there is no sense in going on.
            await asyncio.wait(
                [stopping, *clients], timeout=self.config.time_s, return_when=asyncio.FIRST_COMPLETED
            )
            self.phase, self.worked_s = "waiting for answers", self.now()
            if self.nemesis is not None:
                self.nemesis.finish()
            await asyncio.wait(clients, timeout=_PATIENCE_S)
            await faults
        finally:
            stopping.cancel()
            for task in [*clients, faults]:
                task.cancel()
            results = await asyncio.gather(*clients, faults, stopping, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _do_faults(self) -> None:
        if self.nemesis is not None:
            await self.nemesis.run()

    async def _use(self, crew: Crew, user: User) -> None:
        """Do the plan of one client until the time is over."""
        config = self.config
        actions = crew.workload.actions(random_for(config.seed, crew.workload.name, user.index), user.index)
        due_s = self.now() + user.index / (config.clients * config.rate_per_s)
        while self.phase in {"faults", "work"}:
            await asyncio.sleep(max(0.0, due_s - self.now()))
            if self.phase not in {"faults", "work"}:
                return
            action = next(actions)
            crew.used.append(action)
            await self._perform(user, action)
            due_s = max(due_s + 1 / config.rate_per_s, self.now())

    async def _perform(self, user: User, action: Action) -> None:
        user.lately.clear()
        try:
            opened = await self._sessions[user.index].open()
        except CoterieError:
            await asyncio.sleep(_BETWEEN_TRIES_S)  # it is being moved; nothing was begun
            return
        await user.perform(action, opened.target)

    async def _recover(self, crew: Crew) -> None:
        """Wait until each client has succeeded again in all that there is evidence of: writes and reads."""
        begun_s, config = self.now(), self.config

        async def one(user: User) -> None:
            missing = dict(crew.workload.evidence)
            rng = random_for(config.seed, crew.workload.name, user.index, "recovery")
            plan = crew.workload.returning or crew.workload.actions
            actions = plan(rng, user.index + config.clients)
            while missing and not self.interrupted:
                action = next(actions)
                crew.used.append(action)
                await self._perform(user, action)
                missing = {name: shows for name, shows in missing.items() if not any(map(shows, user.lately))}
                await asyncio.sleep(0.05)

        tasks = {asyncio.create_task(one(user)): user for user in crew.users}
        late: set[asyncio.Task[None]] = set(tasks)
        try:
            done, late = await asyncio.wait(tasks, timeout=config.recovery_s)
        finally:
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        crew.stuck = [tasks[task].process for task in late]
        crew.recovered_s = self.now() - begun_s

    async def _close_crew(self, crew: Crew) -> None:
        """Write the last marks, and let every client read everything; those who are stuck could not."""
        if crew.stuck:
            return
        for number in range(_TRIES_OF_LAST_READS):
            # Numbered, since one whose outcome is unknown must not be written again.
            if await self._all_done(crew.users[0], crew.workload.marks(number)):
                break
        else:
            crew.stuck = [crew.users[0].process]
            return
        closing = crew.workload.closing(crew.used)
        read = await asyncio.gather(*(self._read_last(user, closing) for user in crew.users))
        crew.stuck = [user.process for user, done in zip(crew.users, read, strict=True) if not done]

    async def _read_last(self, user: User, closing: Sequence[Action]) -> bool:
        """Do each action until it succeeds; return whether all did."""
        for action in closing:
            for _ in range(_TRIES_OF_LAST_READS):
                if await self._all_done(user, [action]):
                    break
            else:
                return False
        return True

    async def _all_done(self, user: User, actions: Sequence[Action]) -> bool:
        """Do actions and return whether each succeeded, in all of its parts; wait a moment if not."""
        for action in actions:
            before = user.counts.copy()
            await self._perform(user, action)
            gained = user.counts - before
            if self.interrupted:
                return True
            if not gained["ok"] or gained["failed"] or gained["unknown"]:
                await asyncio.sleep(_BETWEEN_TRIES_S)
                return False
        return True

    async def _end(self) -> None:
        if self.system.lasting and self.crews:
            try:
                await (await self._sessions[0].open()).target.clear()
            except CoterieError as error:
                self.trouble = self.trouble or f"what was written is still there: {error.message}"
        for session in self._sessions:
            await session.close()
