"""Elections and `@app.leader`: one at a time, the next one when the last one goes, and nobody twice."""

from __future__ import annotations

import asyncio

import pytest
from coordination_place import Place, on, start, until

from coterie import App
from coterie.coordination import Election, Leader, Lease
from coterie.errors import InvalidConfiguration
from coterie.testing import Cluster

election = Election("boss")


async def test_everybody_may_look_up_who_leads(place: Place) -> None:
    a, b = place.node("a"), place.node("b")
    async with on(b):
        assert await election.leader() is None
        async with on(a):
            lease = await election.acquire()
        leader = await election.leader()
        assert isinstance(leader, Leader)
        assert (leader.node, leader.token) == ("a", lease.token)
        second = start(b, election.acquire)
        await until(lambda: candidates(2))
        assert await election.candidates() == ["a", "b"]
        await election.release(lease)
        assert (await second).token > lease.token


async def candidates(count: int) -> bool:
    return len(await election.candidates()) == count


async def test_a_watch_tells_each_change_of_the_leader(place: Place) -> None:
    a, b = place.node("a"), place.node("b")
    seen: list[str] = []

    async def watch() -> None:
        async for leader in election.watch():
            seen.append("" if leader is None else leader.node)  # noqa: PERF401 - it is endless

    watching = start(b, watch)
    await until(lambda: seen == [""])
    for name, call in (("a", a), ("b", b)):
        async with on(call), election:
            await until(lambda name=name: seen[-1] == name)
        await until(lambda: seen[-1] == "")
    assert seen == ["", "a", "", "b", ""]
    watching.cancel()


def duty(app: App, log: list[str], name: str = "boss") -> None:
    @app.leader(name)
    async def lead(lease: Lease) -> None:
        from coterie.context import current

        node = current().node
        log.append(f"+{node}")
        try:
            await asyncio.Event().wait()
        finally:
            log.append(f"-{node}")


async def test_a_leader_runs_on_one_node_and_moves_when_the_node_drains_or_dies() -> None:
    app, log = App("led"), []
    duty(app, log)
    async with Cluster(app, nodes=3, lease_s=1.0) as cluster:
        await until(lambda: len(log) == 1)
        first = next(n for n, node in enumerate(cluster.nodes) if log[0] == f"+{node.name}")
        await cluster.nodes[first].drain()
        await until(lambda: len(log) == 3)
        assert log[1] == log[0].replace("+", "-")
        second = next(n for n, node in enumerate(cluster.nodes) if log[2] == f"+{node.name}")
        assert second != first
        await cluster.kill(second)
        await until(lambda: sum(line.startswith("+") for line in log) == 3)
        assert len({line for line in log if line.startswith("+")}) == 3


async def test_a_leader_that_returns_is_not_run_again() -> None:
    app, runs = App("led"), []

    @app.leader("once")
    async def lead(lease: Lease) -> None:
        runs.append(lease.token)

    async with Cluster(app, nodes=3, lease_s=3.0) as cluster:
        await until(lambda: runs)
        await asyncio.sleep(0.7)
        assert len(runs) == 1
        assert await app.election("once").candidates() != []
        assert len(cluster.nodes) == 3


async def test_a_leader_that_fails_lets_another_lead(caplog: pytest.LogCaptureFixture) -> None:
    app, runs = App("led"), []

    @app.leader("flaky")
    async def lead(lease: Lease) -> None:
        runs.append(lease.token)
        raise RuntimeError("not today")

    async with Cluster(app, nodes=2, lease_s=2.0):
        await until(lambda: len(runs) >= 3)
    assert runs == sorted(set(runs))
    assert "another node may do better" in caplog.text


def test_a_leader_is_declared_once() -> None:
    app = App("led")
    duty(app, [])
    with pytest.raises(InvalidConfiguration, match="the leader 'boss' twice"):
        duty(app, [])
