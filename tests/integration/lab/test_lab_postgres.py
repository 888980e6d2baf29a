"""PostgreSQL in the lab, seen through asyncpg."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from lab_clients import eventually

from coterie import lab
from coterie.lab import Cluster, LabError


@asynccontextmanager
async def connected(cluster: Cluster, member: int | None = None) -> AsyncIterator[asyncpg.Connection]:
    how: dict[str, Any] = {"timeout": 2.0, "command_timeout": 2.0}
    if cluster.certificates is not None:
        how["ssl"] = cluster.certificates.client_context()
    connection = await asyncpg.connect(cluster.url if member is None else cluster.urls[member], **how)
    try:
        yield connection
    finally:
        connection.terminate()


async def rows(cluster: Cluster, member: int) -> list[int]:
    async with connected(cluster, member) as connection:
        return [row["id"] for row in await connection.fetch("SELECT id FROM orders ORDER BY id")]


async def has(cluster: Cluster, member: int, wanted: list[int]) -> None:
    if (found := await rows(cluster, member)) != wanted:
        raise LookupError(found)


async def test_one_member_keeps_what_it_committed_when_it_is_killed() -> None:
    async with lab.start("postgres") as cluster:
        async with connected(cluster) as connection:
            await connection.execute("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)")
            assert await connection.fetchval("SHOW fsync") == "on"
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
        await cluster.kill(0)
        with pytest.raises(ConnectionRefusedError):
            await rows(cluster, 0)
        await cluster.restart(0)
        assert await rows(cluster, 0) == [1]
        assert await cluster.leader() == 0
        await cluster.stop(0)
        assert "database system is shut down" in cluster.logs(0)
        with pytest.raises(LabError, match=r"promote a replica with cluster\.promote"):
            await cluster.leader(within_s=0.3)


@pytest.mark.slow
async def test_a_replica_is_promoted_by_hand_and_the_others_follow() -> None:
    async with lab.start("postgres", members=3, network="proxy") as cluster:
        async with connected(cluster) as connection:
            await connection.execute("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)")
        await eventually(lambda: has(cluster, 1, [1]))
        # Replication is asynchronous: a primary that is cut off acknowledges what a promotion loses.
        await cluster.partition({0}, {1, 2})
        async with connected(cluster, 0) as connection:
            await connection.execute("INSERT INTO orders VALUES (2)")
        await cluster.pause(0)
        await cluster.promote(1)
        assert await cluster.leader() == 1
        async with connected(cluster, 1) as connection:
            await connection.execute("INSERT INTO orders VALUES (3)")
        await eventually(lambda: has(cluster, 2, [1, 3]))
        await cluster.heal()
        await cluster.restart(0)
        await eventually(lambda: has(cluster, 0, [1, 3]))
        async with connected(cluster, 0) as connection:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await connection.execute("INSERT INTO orders VALUES (4)")


@pytest.mark.slow
async def test_passwords_and_certificates_are_demanded() -> None:
    async with lab.start(
        "postgres",
        members=3,
        user="ann",
        password="it's a \\secret",
        tls=True,
        settings={"synchronous_commit": "off"},
    ) as cluster:
        async with connected(cluster) as connection:
            assert await connection.fetchval("SELECT current_user") == "ann"
            assert await connection.fetchval("SHOW synchronous_commit") == "off"
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await asyncpg.connect(cluster.urls[0], ssl=False)
        await cluster.promote(2)
        assert await cluster.leader() == 2
