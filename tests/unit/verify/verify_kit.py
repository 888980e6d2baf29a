"""Reports made by hand, and members that only note what is done to them."""

from __future__ import annotations

from coterie.errors import Outcome, Unavailable
from coterie.history import History, Operation
from coterie.ports import Durability
from coterie.verify import WORKLOADS, Report, VerifyConfig
from coterie.verify.judge import judge, judge_progress
from coterie.verify.nemesis import Done
from coterie.verify.report import Part
from coterie.verify.tally import Tally
from coterie.verify.terms import Terms

TERMS = Terms(
    store_durability=Durability.POWER_LOSS, log_durability=Durability.POWER_LOSS, notes=("A <note>.",)
)
SECOND = 1_000_000_000


def set_history(*, lost: bool) -> History:
    """Return three operations of a set; with `lost` the added element is not read."""
    return History(
        [
            Operation(process="set-0", type="invoke", f="add", key="s0", value=7, time=1 * SECOND),
            Operation(process="set-0", type="ok", f="add", key="s0", time=2 * SECOND),
            Operation(process="set-1", type="invoke", f="add", key="s0", value=8, time=2 * SECOND),
            Operation(
                process="set-1", type="info", f="add", key="s0", time=3 * SECOND, error="Unavailable: <x>"
            ),
            Operation(process="set-2", type="invoke", f="read", key="s0", time=3 * SECOND),
            Operation(
                process="set-2", type="ok", f="read", key="s0", value=[] if lost else [7], time=4 * SECOND
            ),
        ]
    )


def report(*, lost: bool = False, faults: tuple[Done, ...] = (), interrupted: bool = False) -> Report:
    """Return the report of a run of one workload."""
    workload, history = WORKLOADS["set"], set_history(lost=lost)
    kinds = {done.kind for done in faults}
    part = Part(
        workload=workload,
        history=history,
        tally=Tally.of(history.intervals, until_s=5.0, worked_s=4.0),
        judgements=(*judge(workload, history, TERMS, kinds), judge_progress("set", [], 30, TERMS, kinds)),
        recovered_s=0.5,
    )
    return Report(
        config=VerifyConfig(engine="redis", workloads=("set",), seed=7, settings={"appendfsync": "no"}),
        engine="redis",
        version="7.0",
        origin="a wheel",
        members=3,
        terms=TERMS,
        plan=(),
        faults=faults,
        parts=(part,),
        left_out={"log": "not offered", "partition": "cannot be done", "lock": "not offered"},
        elapsed_s=5.0,
        worked_s=4.0,
        interrupted=interrupted,
    )


FAILOVER = Done(kind="failover", member=0, leader=True, cut="", start_s=1.0, end_s=2.5, happened=True)


class Members:
    """`Victim` that notes what is done. `failing` are the methods that raise."""

    def __init__(
        self,
        size: int = 3,
        *,
        leader: int | None = 1,
        failing: tuple[str, ...] = (),
        outcome: Outcome = Outcome.NOT_APPLIED,
    ) -> None:
        self.size = size
        self.noted: list[str] = []
        self._leader = leader
        self._failing = set(failing)
        self._outcome = outcome
        self.stopped: set[int] = set()

    def _note(self, what: str, member: object = "") -> None:
        self.noted.append(f"{what} {member}".strip())
        if what in self._failing:
            raise Unavailable(f"{what} did not work\nand a log", outcome=self._outcome)

    async def leader(self) -> int:
        if self._leader is None:
            raise Unavailable("nobody leads")
        return self._leader

    def running(self, member: int) -> bool:
        return member not in self.stopped

    async def kill(self, member: int) -> None:
        self.stopped.add(member)
        self._note("kill", member)

    async def stop(self, member: int) -> None:
        self._note("stop", member)

    async def start(self, member: int) -> None:
        self.stopped.discard(member)
        self._note("start", member)

    async def pause(self, member: int) -> None:
        self._note("pause", member)

    async def resume(self, member: int) -> None:
        self._note("resume", member)

    async def cut(self, member: int, how: str) -> None:
        self._note(f"cut {how}", member)

    async def heal(self) -> None:
        self._note("heal")

    async def promote(self, member: int) -> None:
        self._note("promote", member)
