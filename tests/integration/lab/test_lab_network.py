"""What the lab's networks do to a connection, and how it says what cannot be done."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from coterie import lab
from coterie.lab import Cluster, LabError, NetworkKind
from coterie.lab._admin import redis_command
from coterie.lab.binaries import RECIPES, find


class Line:
    """A connection to a Valkey member that says PING."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, cluster: Cluster, member: int = 0) -> Line:
        return cls(*await asyncio.open_connection(*cluster.addresses[member]))

    async def ping(self, within_s: float = 5.0) -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.writer.write(b"PING\r\n")
        async with asyncio.timeout(within_s):
            assert await self.reader.readline() == b"+PONG\r\n"
        return loop.time() - begun

    async def close(self) -> None:
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()


async def hear_nothing(cluster: Cluster) -> None:
    line = await Line.open(cluster)
    try:
        assert not await asyncio.wait_for(line.reader.read(), 5.0)
    finally:
        await line.close()


async def test_a_cut_keeps_back_what_was_sent_and_a_heal_delivers_it_in_order(network: NetworkKind) -> None:
    async with lab.start("valkey", network=network) as cluster:
        line = await Line.open(cluster)
        await line.ping()
        await cluster.cut("client", 0)
        with pytest.raises(TimeoutError):
            await line.ping(within_s=0.5)
        line.writer.write(b"ECHO one\r\nECHO two\r\n")
        await cluster.heal()
        async with asyncio.timeout(10):
            said = [await line.reader.readline() for _ in range(5)]
        assert said == [b"+PONG\r\n", b"$3\r\n", b"one\r\n", b"$3\r\n", b"two\r\n"]
        await line.close()


async def test_a_cut_in_one_direction_lets_the_request_through_and_not_the_reply() -> None:
    async with lab.start("valkey", network="proxy") as cluster:
        line, other = await Line.open(cluster), await Line.open(cluster)
        await line.ping()
        await other.ping()
        await cluster.cut(0, "client", both=False)
        line.writer.write(b"SET a 1\r\n")
        with pytest.raises(TimeoutError):
            await line.ping(within_s=0.5)
        await cluster.heal()
        other.writer.write(b"GET a\r\n")
        assert await other.reader.readline() == b"$1\r\n"
        await line.close()
        await other.close()


async def test_a_connection_made_during_a_cut_is_served_after_the_heal() -> None:
    async with lab.start("valkey", network="proxy") as cluster:
        await cluster.cut("client", 0)
        line = await Line.open(cluster)
        with pytest.raises(TimeoutError):
            await line.ping(within_s=0.3)
        given_up = await Line.open(cluster)
        await given_up.close()
        # The member has not heard of either: it sees the lab's own connection only.
        admin = await cluster.engine.site.network.admin("valkey-0", "client")
        assert "connected_clients:1\r\n" in await redis_command(admin, "INFO", "clients")
        await cluster.heal()
        async with asyncio.timeout(5):
            assert await line.reader.readline() == b"+PONG\r\n"
        await line.close()


async def test_latency_is_added_in_each_direction_and_taken_away() -> None:
    async with lab.start("valkey", network="proxy") as cluster:
        line = await Line.open(cluster)
        await line.ping()
        await cluster.shape("client", 0, latency_s=0.1, jitter_s=0.01)
        assert await line.ping() >= 0.2
        await cluster.shape("client", 0, loss=0.9, both=False)
        await line.ping(within_s=30.0)
        await cluster.shape("client", 0)
        await line.ping()
        await line.close()


async def test_a_reset_breaks_connections_between_the_two_hosts_only() -> None:
    async with lab.start("valkey", members=3, network="proxy") as cluster:
        line, other = await Line.open(cluster, 0), await Line.open(cluster, 1)
        await line.ping()
        await other.ping()
        assert await cluster.reset("client", 0) == 1
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(line.reader.read(), 5.0)
        await other.ping()
        assert await cluster.reset() >= 1
        await line.close()
        await other.close()


async def test_a_member_that_is_down_refuses_connections_through_a_proxy() -> None:
    async with lab.start("valkey", network="proxy") as cluster:
        await cluster.kill(0)
        # The proxy itself accepts, and resets when the member refuses: soon, or at once.
        with pytest.raises(ConnectionResetError):
            await hear_nothing(cluster)
        await cluster.restart(0)
        line = await Line.open(cluster)
        await line.ping()
        await line.close()


async def test_two_laboratories_do_not_take_each_others_ports() -> None:
    async with lab.start("valkey") as one, lab.start("valkey", network="proxy") as two:
        port = one.addresses[0].port
        await one.kill(0)
        with socket.socket() as taken, pytest.raises(OSError, match="in use"):
            taken.bind(("127.0.0.1", port))  # free, but reserved for the member's return
        await one.restart(0)
        for cluster in (one, two):
            line = await Line.open(cluster)
            await line.ping()
            await line.close()


async def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(LabError, match="there are nats, etcd"):
        lab.start("mongodb")
    with pytest.raises(LabError, match="members is 1 or 3, not 2"):
        lab.start("nats", members=2)
    with pytest.raises(LabError, match="user and password belong together"):
        lab.start("nats", user="ann")
    async with lab.start("valkey") as cluster:
        with pytest.raises(LabError, match="start it with network='proxy'"):
            await cluster.cut("client", 0)
        with pytest.raises(LabError, match="there is no member 1; they are 0 to 0"):
            await cluster.kill(1)
        await cluster.kill(0)
        with pytest.raises(LabError, match="valkey-0 is stopped"):
            await cluster.pause(0)
    async with lab.start("nats", network="proxy") as cluster:
        with pytest.raises(LabError, match="nats elects its leaders by itself"):
            await cluster.promote(0)
        with pytest.raises(LabError, match="index of a member or 'client', not 'x'"):
            await cluster.cut("x", 0)
        with pytest.raises(LabError, match="below 1"):
            await cluster.shape("client", 0, loss=1.0)
    with pytest.raises(LabError, match="the cluster is not running"):
        await cluster.kill(0)


def test_a_program_that_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COTERIE_LAB_HOME", str(tmp_path))
    with pytest.raises(LabError, match=r"etcd is not installed \(.*coterie lab install etcd, or"):
        find("etcd")
    monkeypatch.setenv("COTERIE_LAB_NATS", str(tmp_path / "nats-server"))
    with pytest.raises(LabError, match=r"COTERIE_LAB_NATS=.* is no program that can be run"):
        find("nats")


@pytest.mark.parametrize("engine", sorted(RECIPES))
def test_every_program_is_installed(engine: str) -> None:
    """`python -m coterie.lab install` is part of the set-up: a machine without the engines tests nothing."""
    assert find(engine).version[0].isdigit()
