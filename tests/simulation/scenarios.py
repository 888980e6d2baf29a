"""Scenarios that the tests of universes run, by name, in processes of their own."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from pathlib import Path
from typing import Any

from coterie.simulation import World
from coterie.simulation.universe import Inconclusive, Violation

EARLY = random.Random()
"""As some libraries have one: made while the module is imported, before there is any universe."""


async def register() -> None:
    """A server that keeps one number in memory, and forgets it when it is killed."""
    value = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal value
        while line := await reader.readline():
            if line != b"get\n":
                value = int(line)
            writer.write(b"%d\n" % value)
        writer.close()

    await (await asyncio.start_server(serve, port=80)).serve_forever()


async def increment(acknowledged: list[int]) -> None:
    """A client that counts what the server has acknowledged."""
    for _ in range(20):
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection("db", 80)
                writer.write(b"get\n")
                value = int(await reader.readline())
                writer.write(b"%d\n" % (value + 1))
                if int(await reader.readline()) == value + 1:
                    acknowledged.append(value + 1)
                writer.close()
        except (OSError, TimeoutError, ValueError):
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)


async def forgetful(world: World) -> int:
    """Breaks its promise in universes in which the server is killed after it has acknowledged something."""
    acknowledged: list[int] = []
    await world.start("db", register)
    await world.start("client", increment, acknowledged)
    async with world.storm(10):
        await world.wait("client")
    reader, writer = await asyncio.open_connection("db", 80)
    writer.write(b"get\n")
    value = int(await reader.readline())
    writer.close()
    if value < len(acknowledged):
        lost = len(acknowledged) - value
        raise Violation("acknowledged increments are lost", promise="durable", witness=f"{lost} of them")
    return value


async def all_is_well(world: World) -> str:
    await asyncio.sleep(1)
    print("printed")
    return "value"


async def fails_an_assertion(world: World) -> None:
    assert world.time == 1, "the time is not 1"


async def fails_an_assertion_on_a_host(world: World) -> None:
    async def host() -> None:
        assert socket.gethostname() == "b", "this is another host"

    await world.start("a", host)
    await world.wait("a")


async def crashes(world: World) -> None:
    raise KeyError("missing")


async def says_nothing(world: World) -> None:
    raise Inconclusive("too little was seen")


async def hangs(world: World) -> None:
    while True:
        pass


async def dies(world: World) -> None:
    os._exit(3)


async def depends_on_the_hash_seed(world: World) -> list[str]:
    names = list({f"name-{number}" for number in range(20)})
    for _ in names:
        await asyncio.sleep(0.1)
    return names


async def returns_what_cannot_be_pickled(world: World) -> Any:
    return lambda: None


async def noisy(world: World) -> None:
    """Draws, waits and talks a lot: any difference between two runs shows in the trace."""
    await world.start("db", register)
    await world.start("other", register)

    async def chat() -> None:
        for _ in range(10):
            await asyncio.sleep(random.random() + EARLY.random())
            name = random.choice(["db", "other"])
            try:
                async with asyncio.timeout(1):
                    reader, writer = await asyncio.open_connection(name, 80)
                    writer.write(b"%d\n" % random.getrandbits(20))
                    await reader.readline()
                    writer.close()
            except (OSError, TimeoutError):
                pass

    async def client() -> None:
        await asyncio.gather(*(chat() for _ in range(5)))

    await world.start("client", client)
    async with world.storm(5):
        await world.wait("client")


def made(answer: str) -> Any:
    async def scenario(world: World) -> str:
        return answer

    return scenario


async def reads_a_real_clock(world: World, clock: Any = time.perf_counter_ns) -> None:
    """A default argument has captured the real clock before there was a simulation."""
    await world.start("db", register)
    await asyncio.sleep(clock() % 1_000_003 / 1e6)
    world.note("late")


async def sends_an_address(world: World) -> None:
    """Entropy that no substitute covers goes over the network."""
    await world.start("db", register)
    _, writer = await asyncio.open_connection("db", 80)
    writer.write(b"%d\n" % Path("/proc/sys/kernel/random/uuid").read_bytes().__hash__())
    await asyncio.sleep(1)
    writer.close()
