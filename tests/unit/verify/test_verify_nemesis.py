"""Faults are done to whom they aim at, undone in any case, and trouble with one does not end the run."""

from __future__ import annotations

import asyncio

import pytest
from verify_kit import Members

from coterie.errors import Outcome
from coterie.verify import Fault
from coterie.verify.nemesis import Nemesis


def fault(kind: str, aim: str = "leader", *, cut: str = "", at_s: float = 0.0) -> Fault:
    return Fault(kind=kind, at_s=at_s, duration_s=0.01, aim=aim, cut=cut)


async def done_to(members: Members, *plan: Fault) -> Nemesis:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    nemesis = Nemesis(members, plan, lambda: loop.time() - begun)
    await nemesis.run()
    return nemesis


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        (fault("kill"), ["kill 1", "start 1"]),
        (fault("kill", "2"), ["kill 2", "start 2"]),
        (fault("restart", "0"), ["stop 0", "start 0"]),
        (fault("pause"), ["pause 1", "resume 1"]),
        (fault("partition", cut="one-way"), ["cut one-way 1", "heal"]),
        (fault("failover"), ["cut alone 1", "kill 1", "promote 0", "heal"]),
    ],
)
async def test_each_fault_is_done_and_undone(planned: Fault, expected: list[str]) -> None:
    members = Members()
    nemesis = await done_to(members, planned)
    assert members.noted == expected
    [done] = nemesis.done
    assert done.end_s is not None
    assert done.leader is (planned.aim == "leader")
    assert done.happened


async def test_somebody_is_hit_when_nobody_leads() -> None:
    members = Members(leader=None)
    nemesis = await done_to(members, fault("kill"))
    assert members.noted == ["kill 0", "start 0"]
    assert not nemesis.done[0].leader


async def test_trouble_is_noted_and_the_next_fault_comes() -> None:
    members = Members(failing=("pause",))
    nemesis = await done_to(members, fault("pause"), fault("kill"))
    assert members.noted == ["pause 1", "kill 1", "start 1"]
    assert [done.trouble for done in nemesis.done] == ["pause did not work", ""]
    assert [done.happened for done in nemesis.done] == [False, True]


async def test_what_may_have_happened_counts_as_having_happened() -> None:
    nemesis = await done_to(Members(failing=("kill",), outcome=Outcome.UNKNOWN), fault("kill"))
    assert [done.happened for done in nemesis.done] == [True]


async def test_a_failover_without_a_replica_is_trouble_and_not_the_end_of_the_run() -> None:
    members = Members()
    members.stopped.update({0, 2})
    nemesis = await done_to(members, fault("failover"), fault("kill"))
    assert members.noted == ["cut alone 1", "kill 1", "kill 1", "start 1"]
    assert [done.trouble for done in nemesis.done] == ["no replica runs that could be promoted", ""]
    assert [done.happened for done in nemesis.done] == [False, True]


async def test_what_is_under_way_is_undone_when_the_time_is_over() -> None:
    members = Members()
    nemesis = Nemesis(
        members,
        [
            Fault(kind="pause", at_s=0, duration_s=3600, aim="2"),
            Fault(kind="kill", at_s=0, duration_s=1, aim="2"),
        ],
        lambda: 1.0,
    )
    running = asyncio.create_task(nemesis.run())
    while members.noted != ["pause 2"]:
        await asyncio.sleep(0)
    assert str(nemesis.current) == "pause of member 2"
    nemesis.finish()
    await running
    assert members.noted == ["pause 2", "resume 2"]
    assert nemesis.current is None


async def test_what_cannot_be_healed_is_told() -> None:
    members = Members(failing=("heal",))
    nemesis = await done_to(members)
    assert "heal did not work" in await nemesis.restore()
    assert members.noted == ["heal", "heal"]
