"""Detection between nodes, on memory and on TCP: who dies is called last long before its lease ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from detection_place import Place, eventually, open_place

from coterie.node.core import Core


def wires() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("tcp", [False, True], ids=["memory", "tcp"])


def suspected(core: Core) -> set[str]:
    found: set[str] = {each.node for each in core.directory.endpoints("Where") if each.suspected}
    return found


def samples(place: Place, name: str) -> dict[tuple[str, ...], Any]:
    """Return what the node "a" has counted under a name."""
    (family,) = [family for family in place.nodes["a"].collect() if family.name == name]
    return {sample.labels: sample.value for sample in family.samples}


@wires()
async def test_a_dead_node_is_suspected_by_all_and_stays_a_member(tcp: bool) -> None:
    async with open_place("a", "b", "c", tcp=tcp) as place:
        dead = await place.kill("b")
        await eventually(lambda: all(dead.id in place.suspects(name) for name in "ac"))
        await eventually(lambda: all(suspected(place.nodes[name]._core) == {dead.id} for name in "ac"))
        assert all(place.nodes[name].facts().members == 3 for name in "ac"), "that is for the Store to say"


@wires()
async def test_live_nodes_hear_each_other_and_suspect_nobody(tcp: bool) -> None:
    async with open_place("a", "b", "c", tcp=tcp) as place:
        detectors = [node._detector for node in place.nodes.values()]
        for detector in detectors:
            assert detector is not None
            await eventually(lambda d=detector: d.gossip.statistics.probes > 10)
            await eventually(lambda d=detector: len(d.gossip.watched) == 2)
            await eventually(lambda d=detector: not d.suspected)


@wires()
async def test_a_caller_learns_from_the_nodes_whom_to_call_last(tcp: bool) -> None:
    async with open_place("a", "b", "c", tcp=tcp) as place, place.calling() as connection:
        assert {await place.where.here() for _ in range(60)} == {"a", "b", "c"}
        dead = await place.kill("b")
        await eventually(lambda: suspected(connection._core) == {dead.id})
        router = connection._core.bindings[place.app.services["Where"]]._plans["here"].router
        now = asyncio.get_running_loop().time()
        router.update(connection._core.directory.endpoints("Where"), now)
        alive = {node.wire_address for node in place.nodes.values()}
        chosen = {router.choose((), now=now, chance=n / 100).address for n in range(100)}
        assert chosen <= alive


async def test_a_node_that_cannot_be_reached_is_heard_again_when_it_can() -> None:
    async with open_place("a", "b", "c", "d") as place:
        lost = place.nodes["b"]
        for other in "acd":
            place.network.cut("b", other)
        await eventually(lambda: all(place.suspects(name).get(lost.id) == "dead" for name in "acd"))
        for other in "acd":
            place.network.mend("b", other)
        await eventually(lambda: not any(place.suspects(name) for name in "abcd"))


async def test_who_leaves_is_not_suspected() -> None:
    async with open_place("a", "b", "c") as place:
        gone = place.nodes.pop("b")
        await gone.drain()
        await gone.close()
        detector = place.nodes["a"]._detector
        assert detector is not None
        seen = detector.gossip.statistics.probes
        await eventually(lambda: detector.gossip.statistics.probes > seen + 10)
        assert gone.id not in place.suspects("a")
        assert gone.id not in place.suspects("c")


async def test_a_node_that_is_no_member_any_more_is_still_seen() -> None:
    async with open_place("a", "b", "c") as place:
        node = place.nodes["b"]
        node._core.membership.fresh = False  # It does not see itself gone, as if the store were out of reach.
        await place.nodes["a"]._core.membership.evict(node._core.membership.me)  # type: ignore[arg-type]
        await eventually(lambda: place.nodes["a"].facts().members == 2)
        detector = place.nodes["a"]._detector
        assert detector is not None
        seen = detector.gossip.statistics.probes
        await eventually(lambda: detector.gossip.statistics.probes > seen + 10)
        expected = {node.id: f"b at {node.wire_address}"}
        await eventually(lambda: place.nodes["a"].facts().gossip.strangers == expected)  # type: ignore[union-attr]


async def test_it_can_be_turned_off() -> None:
    async with open_place() as place:
        node = await place.add("quiet", gossip_s=0)
        assert node.facts().gossip is None
        async with place.calling():
            assert await place.where.here() == "quiet"


async def test_status_and_metrics_show_it() -> None:
    async with open_place("a", "b", "c") as place:
        dead = await place.kill("c")
        await eventually(lambda: dead.id in place.suspects("a"))
        wanted = {("beat", "out"), ("beat", "in"), ("ping", "out"), ("ack", "in")}
        await eventually(lambda: wanted <= samples(place, "coterie_detection_messages_total").keys())
        assert samples(place, "coterie_detection_suspected") == {(): 1}
        await eventually(lambda: place.nodes["a"].facts().gossip.loads)  # type: ignore[union-attr]
        gossip = place.nodes["a"].facts().gossip
        assert gossip is not None
        assert set(gossip.loads) >= {place.nodes["b"].id}


async def test_garbage_is_counted_and_harms_nothing() -> None:
    async with open_place("a", "b") as place:
        for body in (b"", b"\xc1", b"\x90", b"x" * 1000):
            place.nodes["a"]._on_datagram(body, "somebody")
        assert samples(place, "coterie_detection_messages_total")["unreadable", "in"] == 4
