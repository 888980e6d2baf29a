"""etcd in the lab, seen through its JSON gateway."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from lab_clients import Etcd, eventually

from coterie import lab
from coterie.lab import NetworkKind


async def test_one_member_keeps_what_it_acknowledged_when_it_is_killed() -> None:
    async with lab.start("etcd") as cluster, Etcd(cluster.addresses[0]) as etcd:
        await etcd.put("a", "1")
        await cluster.kill(0)
        await cluster.restart(0)
        assert await eventually(lambda: etcd.get("a")) == "1"
        assert await cluster.leader() == 0


@pytest.mark.slow
async def test_three_members_outlive_their_leader_and_a_pause_of_the_next() -> None:
    async with lab.start("etcd", members=3) as cluster:
        first = await cluster.leader()
        async with Etcd(cluster.addresses[first]) as etcd:
            await etcd.put("a", "1")
        await cluster.kill(first)
        second = await cluster.leader()
        assert second != first
        async with Etcd(cluster.addresses[second]) as etcd:
            assert await etcd.get("a") == "1"
            await etcd.put("a", "2")
        await cluster.restart(first)
        await cluster.pause(second)
        async with Etcd(cluster.addresses[second]) as etcd:
            with pytest.raises(httpx.TimeoutException):
                await etcd.get("a")
        third = await cluster.leader()
        assert third != second
        await cluster.resume(second)
        async with Etcd(cluster.addresses[second]) as etcd:
            assert await eventually(lambda: etcd.get("a")) == "2"


@pytest.mark.slow
async def test_a_minority_serves_nothing_and_catches_up_after_the_heal(network: NetworkKind) -> None:
    async with lab.start("etcd", members=3, network=network) as cluster:
        old = await cluster.leader()
        await cluster.partition({old}, {0, 1, 2} - {old})
        new = await cluster.leader()
        assert new != old
        async with Etcd(cluster.addresses[new]) as majority, Etcd(cluster.addresses[old]) as minority:
            await majority.put("a", "1")
            # The write times out, so it may be applied after the heal: on another key, then.
            tried = await asyncio.gather(minority.get("a"), minority.put("b", "?"), return_exceptions=True)
            assert [isinstance(outcome, httpx.HTTPError) for outcome in tried] == [True, True]
            await cluster.heal()
            assert await eventually(lambda: minority.get("a")) == "1"


async def test_a_client_that_is_cut_off_hears_nothing_until_the_heal(
    network: NetworkKind,
) -> None:
    async with lab.start("etcd", network=network) as cluster, Etcd(cluster.addresses[0]) as etcd:
        await etcd.put("a", "1")
        await cluster.cut("client", 0)
        with pytest.raises(httpx.TimeoutException):
            await etcd.get("a")
        await cluster.heal()
        assert await eventually(lambda: etcd.get("a")) == "1"


async def test_passwords_and_certificates_are_demanded() -> None:
    async with lab.start("etcd", members=3, user="ann", password="secret", tls=True) as cluster:
        assert cluster.url.startswith("etcd://ann:secret@127.0.0.1:")
        assert cluster.certificates is not None
        context = cluster.certificates.client_context()
        async with Etcd(cluster.addresses[0], scheme="https", verify=context) as etcd:
            with pytest.raises(httpx.HTTPStatusError):
                await etcd.get("a")
            login = await etcd.call("/v3/auth/authenticate", name="ann", password="secret")
            etcd.http.headers["Authorization"] = login["token"]
            await etcd.put("a", "1")
            assert await etcd.get("a") == "1"
        async with Etcd(cluster.addresses[0]) as plain:
            with pytest.raises(httpx.HTTPError):
                await plain.get("a")
        await cluster.kill(await cluster.leader())
        assert await cluster.leader() in {0, 1, 2}
