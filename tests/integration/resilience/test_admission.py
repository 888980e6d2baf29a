"""A node takes on as much as the code and its coterie.toml say, of a service and of each method."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from resilience_place import calling, eventually

from coterie import App, Outcome, Overloaded, Policy, limit
from coterie.errors import DeadlineExceeded
from coterie.node import Node, resolve
from coterie.resilience import Limiter, QueueConfig
from coterie.testing import Cluster


class Site:
    """What the service was asked, in the order in which it began; it answers once the gate is open."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.gate = asyncio.Event()

    async def work(self, name: str) -> None:
        self.order.append(name)
        await self.gate.wait()


def an_app(site: Site) -> tuple[App, type]:
    app = App("shop", policy=Policy(retry=None, timeout_s=30.0))

    @app.service(limit=2, queue=QueueConfig(length=0))
    class Work:
        @limit(1, queue=QueueConfig(length=4, target_s=10.0, interval_s=10.0))
        async def heavy(self, name: str) -> None:
            await site.work(name)

        async def light(self, name: str) -> None:
            await site.work(name)

    return app, Work


def limiters(node: Node) -> dict[str, Limiter]:
    assert node._dispatcher is not None
    return node._dispatcher._limiters


async def test_a_method_with_a_limit_leaves_room_for_the_others() -> None:
    site = Site()
    app, cls = an_app(site)
    work = app.client(cls)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster):
        calls = [asyncio.ensure_future(work.heavy("heavy"))]
        await eventually(lambda: site.order)
        found = limiters(cluster.nodes[0])
        calls.append(asyncio.ensure_future(work.heavy("waits")))
        await eventually(lambda: found["Work.heavy"].waiting == 1)
        calls.append(asyncio.ensure_future(work.light("light")))
        await eventually(lambda: len(site.order) == 2)
        assert site.order == ["heavy", "light"], "who waits for the method takes no room from the service"
        site.gate.set()
        await asyncio.gather(*calls)
    assert site.order == ["heavy", "light", "waits"]


async def test_who_the_service_turns_away_gives_its_place_in_the_method_back() -> None:
    site = Site()
    app, cls = an_app(site)
    work = app.client(cls)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster):
        calls = [asyncio.ensure_future(work.light(name)) for name in ("a", "b")]
        await eventually(lambda: len(site.order) == 2)
        found = limiters(cluster.nodes[0])
        for _ in range(3):
            with pytest.raises(Overloaded, match="Work on shop-1 has 2 calls under way") as caught:
                await work.heavy("too much")
            assert caught.value.outcome is Outcome.NOT_APPLIED
        assert found["Work.heavy"].state.under_way == 0
        site.gate.set()
        await asyncio.gather(*calls)
        await work.heavy("later")
        assert {name: each.state.under_way for name, each in found.items()} == {"Work": 0, "Work.heavy": 0}
    assert site.order == ["a", "b", "later"]


async def test_a_wait_for_the_method_ends_at_the_deadline() -> None:
    site = Site()
    app, cls = an_app(site)
    work, hasty = app.client(cls), app.client(cls, policy=Policy(retry=None, timeout_s=0.05))
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster):
        first = asyncio.ensure_future(work.heavy("first"))
        await eventually(lambda: site.order)
        with pytest.raises(DeadlineExceeded):
            await hasty.heavy("too late")
        found = limiters(cluster.nodes[0])
        await eventually(lambda: found["Work.heavy"].waiting == 0)
        site.gate.set()
        await first
        await work.heavy("later")
    assert site.order == ["first", "later"]


TOML = """
[admission]
limit = 64

[admission.Work]
limit = 1
queue = { length = 9, target_s = 10.0, interval_s = 10.0 }

[admission."Work.heavy"]
limit = "off"
priority = 3

[admission."Work.light"]
priority = 0
"""


async def test_a_node_goes_by_its_file(tmp_path: Path) -> None:
    site = Site()
    app, cls = an_app(site)
    work = app.client(cls)

    @app.service
    class Other:
        async def ask(self) -> None: ...

    (tmp_path / "coterie.toml").write_text(TOML)
    engine = f"sqlite:///{tmp_path}/shop.db"
    config, _ = resolve({"engine": engine, "http": "off", "name": "one"}, {}, tmp_path)
    node = Node(app, config)
    await node.start()
    try:
        found = limiters(node)
        assert {name: each.state.limit for name, each in found.items()} == {"Work": 1, "Other": 64}
        async with app.connect(config=config):
            calls = [asyncio.ensure_future(work.heavy("first"))]
            await eventually(lambda: site.order)
            for number, call in enumerate((work.heavy("heavy"), work.light("light")), 1):
                calls.append(asyncio.ensure_future(call))
                await eventually(lambda number=number: found["Work"].waiting == number)
            site.gate.set()
            await asyncio.gather(*calls)
    finally:
        await node.close()
    assert site.order == ["first", "light", "heavy"], "in the code none is more important"


async def test_a_wrong_file_refuses_the_start(tmp_path: Path) -> None:
    app, _ = an_app(Site())
    (tmp_path / "coterie.toml").write_text("[admission.Wrok]\nlimit = 3\n")
    engine = f"sqlite:///{tmp_path}/shop.db"
    config, _ = resolve({"engine": engine, "http": "off"}, {}, tmp_path)
    node = Node(app, config)
    with pytest.raises(Exception, match="did you mean 'Work'"):
        await node.start()
