"""Members go, or the way to them: nothing acknowledged is lost, and no outcome is untrue."""

from __future__ import annotations

import asyncio

import pytest
from etcd_tools import create, engine_at

from coterie import lab
from coterie.errors import Conflict, Fenced, Outcome, Unavailable
from coterie.ports import Durability
from coterie.ports.store import Commit, Entry, Fence, Put, Store


class Writers:
    """Clients that create keys, and what they were told of each."""

    def __init__(self) -> None:
        self.revisions: dict[str, int] = {}
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self.some = asyncio.Event()

    async def write(self, store: Store, who: int, until: asyncio.Event) -> None:
        number = 0
        while not until.is_set():
            key, number = f"{who}-{number:05}", number + 1
            try:
                self.revisions[key] = await store.commit(create(key))
            except Unavailable as error:
                (self.unknown if error.outcome is Outcome.UNKNOWN else self.refused).add(key)
            if len(self.revisions) > 50:
                self.some.set()

    async def enough(self, more: int) -> None:
        """Return when so many more commits were acknowledged."""
        goal = len(self.revisions) + more
        while len(self.revisions) < goal:
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_killed_leader_loses_nothing_that_was_acknowledged_and_watches_go_on() -> None:
    async with lab.start("etcd", members=3) as cluster:
        leader = await cluster.leader()
        # The engine that talks to the leader itself has calls under way when that dies.
        through_leader = ",".join(
            str(cluster.addresses[index]) for index in (leader, *({0, 1, 2} - {leader}))
        )
        async with engine_at(f"etcd://{through_leader}") as first, engine_at(cluster.url) as second:
            assert first.store.guarantees.durability is Durability.MACHINE_LOSS
            writers, done = Writers(), asyncio.Event()
            running = [
                asyncio.create_task(writers.write(engine.store, index, done))
                for index, engine in enumerate((first, second) * 4)
            ]
            async with second.store.watch("") as watch:
                seen = {change.key: change.version for change in (await anext(watch)).changes}
                await writers.some.wait()
                await cluster.kill(leader)
                await writers.enough(200)
                await cluster.restart(leader)
                await writers.enough(50)
                done.set()
                await asyncio.gather(*running)
                last = await second.store.commit(create("end"))
                while "end" not in seen:
                    batch = await anext(watch)
                    seen |= {change.key: change.version for change in batch.changes}
            del seen["end"]
            found = {
                entry.key: entry.version
                for who in range(8)
                for entry in (await first.store.scan(f"{who}-", limit=10_000)).entries
            }
            assert last > max(found.values())
            assert writers.revisions.items() <= found.items()
            assert not writers.refused & found.keys()
            assert found.keys() - writers.revisions.keys() <= writers.unknown
            assert seen == found


async def test_a_commit_whose_answer_is_lost_is_not_sent_again() -> None:
    async with lab.start("etcd", network="proxy") as cluster, engine_at(cluster.url) as engine:
        direct = cluster.engine.site.network.listening(cluster.members[0].name, "client")
        async with engine_at(f"etcd://{direct}") as other:
            await engine.store.commit(create("before"))
            await cluster.shape(0, "client", cut=True, both=False)
            committing = asyncio.create_task(engine.store.commit(create("key")))
            while await other.store.get("key") is None:
                await asyncio.sleep(0.005)
            await cluster.reset()
            await cluster.heal()
            # Sent again it would be refused, for the key is there, and be called not applied.
            with pytest.raises(Unavailable) as raised:
                await committing
            assert raised.value.outcome is Outcome.UNKNOWN
            assert await engine.store.get("key") == await other.store.get("key")


async def test_what_was_sent_and_not_answered_is_unknown() -> None:
    async with lab.start("etcd") as cluster, engine_at(cluster.url, timeout_s=1) as engine:
        store = engine.store
        lease = await store.grant(60)
        await store.commit(Commit((Put("key", b"1", lease),)))
        async with store.watch("") as watch:
            await anext(watch)
            await cluster.pause(0)
            errors = await asyncio.gather(
                store.commit(create("sent")), store.get("key"), store.renew(lease), return_exceptions=True
            )
            assert [type(error) for error in errors] == [Unavailable] * 3
            assert [error.outcome for error in errors] == [Outcome.UNKNOWN] * 3  # type: ignore[union-attr]
            await cluster.resume(0)
            revision = await store.commit(Commit((Put("key", b"2"),)))
            while (await anext(watch)).revision < revision:
                pass
        entry = await store.get("key")
        assert entry is not None
        assert (entry.value, entry.version) == (b"2", revision)


async def test_nothing_is_applied_where_nobody_listens_and_all_goes_on_after_a_restart() -> None:
    async with lab.start("etcd") as cluster, engine_at(cluster.url, timeout_s=20) as engine:
        store = engine.store
        short, long = await store.grant(2), await store.grant(60)
        await store.commit(Commit((Put("short", b"", short), Put("long", b"", long))))
        async with store.watch("") as watch:
            await anext(watch)
            await cluster.kill(0)
            # A connection is refused, so the commit was not sent, and is tried until a member is there.
            late = asyncio.create_task(store.commit(create("late")))
            reading = asyncio.create_task(store.get("long"))
            await asyncio.sleep(0.3)
            assert not late.done()
            await cluster.restart(0)
            assert (await reading) is not None
            seen: dict[str, bytes | None] = {}
            while not {"late", "short"} <= seen.keys():
                for change in (await anext(watch)).changes:
                    seen[change.key] = change.value
            assert seen == {"late": b"", "short": None}
            entry = await store.get("late")
            assert entry is not None
            # If its first attempt met a connection that had just broken, its outcome is unknown.
            [told] = await asyncio.gather(late, return_exceptions=True)
            assert told == entry.version or (
                isinstance(told, Unavailable) and told.outcome is Outcome.UNKNOWN
            )
            with pytest.raises(Conflict):
                await store.commit(create("late"))
        await store.renew(long)


async def test_callers_that_are_cancelled_leave_nothing_behind_and_the_others_get_their_answers() -> None:
    async with lab.start("etcd") as cluster, engine_at(cluster.url) as engine:
        store = engine.store
        lease = await store.grant(60)
        await store.commit(Commit((Put("key", b"0", lease),), fences=(Fence("lock", 1),)))
        await cluster.pause(0)
        callers = [
            asyncio.create_task(call)
            for number in range(20)
            for call in (
                store.commit(Commit((Put(f"key-{number}", b""),), fences=(Fence("lock", 2 + number),))),
                store.get("key"),
                store.renew(lease),
            )
        ]
        while engine.client.under_way < 41:  # The gets share one.
            await asyncio.sleep(0)
        leaving, staying = callers[:30], callers[30:]
        for caller in leaving:
            caller.cancel()
        await asyncio.wait(leaving)
        assert all(caller.cancelled() for caller in leaving)
        await cluster.resume(0)
        # Fences rise in no order here, so some of these are refused: an answer too.
        answers = await asyncio.gather(*staying, return_exceptions=True)
        assert all(answer is None or isinstance(answer, int | Entry | Fenced) for answer in answers)
        assert engine.client.under_way == 0
        await store.commit(Commit((Put("key", b"1"),), fences=(Fence("lock", 50),)))
        entry = await store.get("key")
        assert entry is not None
        assert entry.value == b"1"


@pytest.mark.slow
async def test_what_a_dead_leader_swallowed_is_given_up_when_there_is_another() -> None:
    async with lab.start("etcd", members=3) as cluster:
        leader = await cluster.leader()
        follower = (leader + 1) % 3
        async with engine_at(cluster.urls[follower], timeout_s=60) as engine:
            await engine.store.commit(create("before"))
            await cluster.kill(leader)
            # The follower hands both on to the dead, and would itself give up after seven seconds.
            reading = asyncio.create_task(engine.store.get("before"))
            with pytest.raises(Unavailable, match="leader changed") as raised:
                await engine.store.commit(create("swallowed"))
            assert raised.value.outcome is Outcome.UNKNOWN
            assert await reading is not None
            await engine.store.commit(create("after"))
