"""Faults that overlap: each ends by itself, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from coterie.simulation import Conditions, World, run
from coterie.simulation.environment import EPOCH_S
from coterie.simulation.faults import CLASSES
from coterie.simulation.tape import Tape


async def idle() -> None:
    await asyncio.Event().wait()


async def start(world: World, *names: str) -> None:
    for name in names:
        await world.start(name, idle)


def begin(world: World, kind: str, *names: str) -> Callable[[], object]:
    """Let a fault happen to the first of `names`; return what ends it."""
    damaged = CLASSES[kind](world, Tape.recorded({}).stream("calm"), names)
    assert damaged is not None
    assert damaged.undo is not None
    return damaged.undo


def test_weathers_that_overlap_add_up_and_end_one_by_one() -> None:
    async def main(world: World) -> None:
        await start(world, "a", "b")
        end_latency = begin(world, "latency", "a", "b")
        end_loss = begin(world, "loss", "b", "a")
        both = world.conditions_between("a", "b")
        assert both.tail > 0
        assert both.loss > 0
        end_latency()
        assert world.conditions_between("a", "b") == Conditions(loss=both.loss)
        end_loss()
        assert world.conditions_between("a", "b") == world.conditions_between("b", "a") == Conditions()

    run(main)


def test_what_is_set_by_hand_during_a_fault_stays_and_the_fault_does_not() -> None:
    async def main(world: World) -> None:
        await start(world, "a", "b")
        end_bandwidth = begin(world, "bandwidth", "a", "b")
        world.link("a", "b", latency_s=(0.1, 0.2))
        assert world.conditions_between("a", "b").bytes_per_s < 1e9
        end_bandwidth()
        assert world.conditions_between("a", "b") == Conditions(latency_s=(0.1, 0.2))

    run(main)


def test_after_a_storm_everything_is_as_before() -> None:
    async def main(world: World) -> None:
        await start(world, "a", "b", "c")
        async with world.storm(30.0, use_swarm=False, most=40):
            await asyncio.sleep(30.0)
        for one in world.hosts:
            assert world.host(one).running
            assert world.host(one).clock.drift_ppm == 0
            # What drift has added up to stays, as on a machine whose clock nobody sets.
            assert world.host(one).clock.wall() == pytest.approx(EPOCH_S + world.time, abs=0.2)
            assert not world.host(one).disk.failing
            for other in set(world.hosts) - {one}:
                assert world.conditions_between(one, other) == Conditions()
        assert not world.network.cuts
        assert not world.network.without_dns
        assert not world.network.dns

    for seed in range(30):
        run(main, seed=seed)


def test_a_name_leads_to_where_nobody_is_for_a_while() -> None:
    async def main(world: World) -> None:
        await start(world, "a")
        address = world.host("a").stack.address
        seed = next(seed for seed in range(100) if "gets no answer" not in silence(world, seed))
        damaged = CLASSES["dns"](world, Tape(seed).stream("dns"), ("a",))
        assert damaged is not None
        assert damaged.what == "the name of a leads to where nobody is"
        assert await resolved("a") not in {each.stack.address for each in world.hosts.values()}
        assert "gets no answer" in silence(world, seed)  # While it leads astray it does not do so again.
        assert damaged.undo is not None
        damaged.undo()
        assert await resolved("a") == address
        assert not world.network.dns

    run(main)


def silence(world: World, seed: int) -> str:
    """Let a fault of the class `dns` happen and end; return what it was."""
    damaged = CLASSES["dns"](world, Tape(seed).stream("dns"), ("a",))
    assert damaged is not None
    assert damaged.undo is not None
    damaged.undo()
    return damaged.what


async def resolved(name: str) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    address: str = found[0][4][0]
    return address
