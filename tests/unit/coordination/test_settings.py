"""Shared configuration: typed, validated before it is accepted, followed; and the instances of a service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest
from coordination_place import until

from coterie import App
from coterie.context import CURRENT, current
from coterie.coordination import Coordination, Instance, Settings
from coterie.errors import Conflict, InvalidArgument, InvalidConfiguration, NotFound, NotRunning
from coterie.ports.store import Commit, Put
from coterie.testing import Cluster


@dataclass(frozen=True)
class Limits:
    per_second: int = 10
    burst: int = 20


def sensible(limits: Limits) -> None:
    if limits.burst < limits.per_second:
        raise ValueError("the burst is smaller than the rate")


def an_app(keep: int = 50) -> tuple[App, Settings[Limits]]:
    app = App("configured")
    return app, app.config(Limits, validate=sensible, keep=keep)


async def test_every_node_goes_by_what_one_sets() -> None:
    app, limits = an_app()
    async with Cluster(app, nodes=3) as cluster:
        assert limits.current == Limits()
        assert limits.number == 0
        done = await limits.set(Limits(5, 9), note="a quiet week")
        assert (done.number, done.note, done.node) == (1, "a quiet week", cluster.nodes[0].name)
        assert limits.current == Limits(5, 9), "who sets it finds it set"
        for node in cluster.nodes:
            CURRENT.set(node.call)
            await until(lambda: limits.current == Limits(5, 9))
        await cluster.add()
        CURRENT.set(cluster.nodes[-1].call)
        assert limits.current == Limits(5, 9), "a node that starts knows it from the first moment"


async def test_what_is_not_valid_is_not_accepted() -> None:
    app, limits = an_app()
    async with Cluster(app, nodes=1):
        with pytest.raises(InvalidArgument, match="Limits is not valid: the burst is smaller"):
            await limits.set(Limits(5, 1))
        with pytest.raises(InvalidArgument):
            await limits.set(Limits("many", 1))  # type: ignore[arg-type]
        assert await limits.history() == []
        assert limits.current == Limits()


async def test_history_rollback_and_races() -> None:
    app, limits = an_app(keep=3)
    async with Cluster(app, nodes=1):
        for rate in range(1, 6):
            await limits.set(Limits(rate, 50))
        assert [each.value.per_second for each in await limits.history()] == [5, 4, 3]
        back = await limits.rollback(3)
        assert (back.number, back.value, back.note) == (6, Limits(3, 50), "back to version 3")
        with pytest.raises(NotFound, match="version 1 is not kept"):
            await limits.rollback(1)
        assert (await limits.rollback(0)).value == Limits()
        with pytest.raises(Conflict, match="at version 7, not 6"):
            await limits.set(Limits(1, 1), expect=6)
        await asyncio.gather(
            *(limits.update(lambda old: Limits(old.per_second + 1, old.burst + 1)) for _ in range(8))
        )
        assert (await limits.get()).value == Limits(18, 28)


async def test_the_history_has_the_newest_also_where_more_were_kept_once() -> None:
    app, limits = an_app()
    async with Cluster(app, nodes=1):
        for rate in range(1, 7):
            await limits.set(Limits(rate, 50))
        fewer = Settings(Limits, keep=2)
        assert [each.number for each in await fewer.history()] == [6, 5]


async def test_what_is_no_configuration_is_an_error_of_ours() -> None:
    app, limits = an_app()
    async with Cluster(app, nodes=1):
        store = current().bindings[Coordination].store
        await store.commit(Commit((Put("configured/config/Limits/newest", b"\xc1"),)))
        for call in (limits.get(), limits.history(), limits.set(Limits())):
            with pytest.raises(InvalidArgument, match="is not readable"):
                await call


async def test_a_watch_tells_what_the_node_goes_by() -> None:
    app, limits = an_app()
    seen: list[int] = []
    async with Cluster(app, nodes=2) as cluster:

        async def follow() -> None:
            CURRENT.set(cluster.nodes[1].call)
            async for version in limits.watch():
                seen.append(version.number)  # noqa: PERF401 - it is endless

        following = asyncio.create_task(follow())
        await until(lambda: seen == [0])
        await limits.set(Limits(1, 2))
        await until(lambda: seen == [0, 1])
        following.cancel()


async def test_a_node_keeps_what_worked_when_it_cannot_use_the_newest() -> None:
    app, limits = an_app()
    async with Cluster(app, nodes=1):
        await limits.set(Limits(5, 9))
        store = current().bindings[Coordination].store
        record = msgspec.msgpack.encode(
            [2, msgspec.msgpack.encode({"per_second": 9, "burst": 1}), "x", 0.0, ""]
        )
        await store.commit(Commit((Put("configured/config/Limits/newest", record),)))
        await until(lambda: limits.rejected)
        assert "burst is smaller" in limits.rejected
        assert limits.current == Limits(5, 9)
        with pytest.raises(InvalidArgument):
            await limits.get()
        await limits.set(Limits(6, 9))
        assert (limits.current, limits.number, limits.rejected) == (Limits(6, 9), 3, "")


def test_what_cannot_be_a_configuration_is_refused() -> None:
    @dataclass
    class NoDefault:
        rate: int

    app, limits = an_app()
    with pytest.raises(InvalidConfiguration, match="give every field a default"):
        app.config(NoDefault)
    with pytest.raises(InvalidConfiguration, match="the configuration 'Limits' twice"):
        app.config(Limits)
    with pytest.raises(InvalidArgument, match="burst"):
        App("other").config(Limits, validate=lambda limits: sensible(Limits(9, limits.per_second - 9)))
    with pytest.raises(NotRunning):
        _ = limits.current


async def test_the_instances_of_a_service_are_followed() -> None:
    app = App("served")

    @app.service
    class Shop:
        async def buy(self) -> None: ...

    shops = app.instances(Shop)
    seen: list[Sequence[Instance]] = []

    async def follow() -> None:
        async for found in shops.watch():
            seen.append(found)  # noqa: PERF401 - it is endless

    async with Cluster(app, nodes=2, lease_s=0.5) as cluster:
        following = asyncio.create_task(follow())
        await until(lambda: len(shops.now()) == 2)
        await cluster.add()
        await until(lambda: seen and len(seen[-1]) == 3)
        gone = await cluster.kill(2)
        await until(lambda: len(seen[-1]) == 2)
        assert gone.name not in {instance.node for instance in seen[-1]}
        assert app.instances("Nobody").now() == []
        following.cancel()
