"""Joining, staying, being forgotten and coming back, on the memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import LeaseLost, Outcome, Unavailable
from coterie.membership import Event, Member, Membership, MembershipConfig, MemberState

LEASE_S = 0.4


class Party:
    """Memberships on one store."""

    def __init__(self) -> None:
        self.store = MemoryStore(clock=SystemClock())
        self.all: list[Membership] = []

    async def start(
        self, store: Any = None, on_event: Callable[[Event], None] = lambda _: None
    ) -> Membership:
        membership = Membership(
            store or self.store,
            "app/member/",
            clock=SystemClock(),
            entropy=SystemEntropy(),
            config=MembershipConfig(lease_ttl_s=LEASE_S, margin_s=0.1),
            on_event=on_event,
        )
        self.all.append(membership)
        await membership.start()
        return membership

    async def join(self, id_: str, store: Any = None) -> Membership:
        membership = await self.start(store)
        await membership.join(Member(id=id_, name=id_, address="x:1", state=MemberState.SERVING))
        return membership


@pytest.fixture
async def party() -> AsyncIterator[Party]:
    party = Party()
    yield party
    for membership in party.all:
        await membership.close()
    await party.store.close()


async def until(membership: Membership, condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; it is looked at at each change of the view."""
    async with asyncio.timeout(10):
        while not condition():
            await membership.wait_changed()


def ids(membership: Membership) -> set[str]:
    return set(membership.view.members)


async def test_everybody_sees_who_joins_and_who_leaves(party: Party) -> None:
    a, b = await party.join("a"), await party.join("b")
    await until(a, lambda: ids(a) == {"a", "b"})
    await until(b, lambda: ids(b) == {"a", "b"})
    assert a.joined
    await b.leave()
    assert not b.joined
    await until(a, lambda: ids(a) == {"a"})


async def test_a_member_stays_while_it_lives(party: Party) -> None:
    a, b = await party.join("a"), await party.join("b")
    await until(a, lambda: ids(a) == {"a", "b"})
    await asyncio.sleep(2.5 * LEASE_S)
    assert ids(a) == {"a", "b"}
    assert b.joined


async def test_the_death_of_a_member_is_noticed(party: Party) -> None:
    a, b = await party.join("a"), await party.join("b")
    await until(a, lambda: ids(a) == {"a", "b"})
    await b.close()  # as a crash: nothing is said to anyone
    await until(a, lambda: ids(a) == {"a"})


async def test_a_new_state_is_seen_by_the_others(party: Party) -> None:
    a, b = await party.join("a"), await party.join("b")
    await b.announce(MemberState.DRAINING)
    await until(a, lambda: "b" in ids(a) and a.view.members["b"].state is MemberState.DRAINING)
    with pytest.raises(LeaseLost, match="has not joined"):
        await (await party.start()).announce(MemberState.SERVING)


async def test_a_live_member_that_was_evicted_comes_back(party: Party) -> None:
    a, b = await party.join("a"), await party.join("b")
    await until(a, lambda: "b" in ids(a))
    await a.evict(a.view.members["b"])
    await until(a, lambda: "b" not in ids(a))
    await until(a, lambda: "b" in ids(a))
    assert b.joined


async def test_news_of_a_member_that_the_store_did_not_take_is_told_again(party: Party) -> None:
    flaky = Flaky(party.store)
    a, b = await party.join("a"), await party.join("b", flaky)
    await until(a, lambda: "b" in ids(a))
    flaky.cut = True
    with pytest.raises(Unavailable):
        await b.announce(MemberState.DRAINING)
    flaky.cut = False
    await until(a, lambda: "b" in ids(a) and a.view.members["b"].state is MemberState.DRAINING)


async def test_a_view_is_followed_again_after_any_failure(party: Party) -> None:
    failing: list[str] = []

    def on_event(event: Event) -> None:
        if event.member.id == "b" and not failing:
            failing.append("once")
            raise RuntimeError("no good listener")

    a, _ = await party.start(on_event=on_event), await party.join("b")
    await until(a, lambda: ids(a) == {"b"})
    await party.join("c")
    await until(a, lambda: ids(a) == {"b", "c"})
    assert failing == ["once"]


async def test_a_lease_is_renewed_again_after_any_failure(party: Party) -> None:
    class Odd(Flaky):
        failed = False

        async def renew(self, lease: int) -> None:
            if not self.failed:
                self.failed = True
                raise RuntimeError("a bug of the engine")
            await self.store.renew(lease)
            renewed.set()

    renewed = asyncio.Event()
    member = await party.join("b", Odd(party.store))
    async with asyncio.timeout(10):
        await renewed.wait()
    assert member.joined


async def test_a_failure_at_the_start_is_raised_whatever_it_is(party: Party) -> None:
    class Broken(Flaky):
        def watch(self, prefix: str) -> Any:
            raise RuntimeError("no watch")

    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="no watch"):
            await party.start(Broken(party.store))


class Flaky:
    """A store that can be cut off from one member."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        if self.cut:
            raise Unavailable("cut off", outcome=Outcome.NOT_APPLIED)
        return getattr(self.store, name)


async def test_a_member_that_is_cut_off_stops_believing_and_joins_again(party: Party) -> None:
    flaky = Flaky(party.store)
    a, b = await party.join("a"), await party.join("b", flaky)
    await until(a, lambda: ids(a) == {"a", "b"})
    flaky.cut = True
    believed: list[bool] = []

    def b_is_gone() -> bool:
        believed.append(b.joined)
        return ids(a) == {"a"}

    await until(a, b_is_gone)
    assert not b.joined, "the others were told that it is gone while it still believed"
    flaky.cut = False
    await until(a, lambda: ids(a) == {"a", "b"})
    async with asyncio.timeout(10):
        while not b.joined:
            await asyncio.sleep(0.01)


async def test_a_store_that_cannot_be_read_is_an_error_at_the_start(party: Party) -> None:
    flaky = Flaky(party.store)
    flaky.cut = True
    with pytest.raises(Unavailable):
        await party.start(flaky)


@pytest.mark.parametrize(
    "bad", [{"lease_ttl_s": 0.1}, {"lease_ttl_s": 9999}, {"margin_s": 0}, {"margin_s": 3}]
)
def test_nonsense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"lease_ttl_s|margin_s"):
        MembershipConfig(**bad)
