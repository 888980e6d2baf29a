"""Sequences hand out no number twice; barriers let all go on together, or nobody."""

from __future__ import annotations

import asyncio

import pytest
from coordination_place import Place, on, start, until

from coterie.coordination import Barrier, Sequence
from coterie.errors import DeadlineExceeded, InvalidArgument, LeaseLost, Outcome, Unavailable


@pytest.mark.parametrize("block", [1, 7, 1000])
async def test_no_number_is_handed_out_twice(place: Place, block: int) -> None:
    numbers = Sequence("orders", block=block)
    calls = [place.node(name) for name in "abc"]

    async def take() -> list[int]:
        return [await numbers.next() for _ in range(20)]

    taken = await asyncio.gather(*(start(call, take) for call in calls for _ in range(4)))
    every = [number for part in taken for number in part]
    assert len(set(every)) == 240
    assert all(part == sorted(part) for part in taken)
    assert min(every) == 1


async def test_with_blocks_of_one_later_numbers_are_greater(place: Place) -> None:
    numbers = Sequence("orders", block=1)
    calls = {name: place.node(name) for name in "abc"}
    assert [await start(calls[name], numbers.next) for name in "abacb"] == [1, 2, 3, 4, 5]


async def test_a_block_costs_one_commit(place: Place) -> None:
    numbers = Sequence("orders", block=50)
    async with on(place.node()):
        await numbers.next()
        place.flaky["a"].calls.clear()
        assert [await numbers.next() for _ in range(49)] == list(range(2, 51))
        assert place.flaky["a"].calls == []
        assert await numbers.next() == 51
        assert place.flaky["a"].calls == ["commit"]
        assert await numbers.reserve(3) == range(52, 55)
        assert len(await numbers.reserve(500)) == 500


async def test_a_lost_answer_is_a_gap_and_no_double(place: Place) -> None:
    numbers = Sequence("orders", block=1)
    async with on(place.node()):
        assert await numbers.next() == 1
        place.flaky["a"].mute = True
        with pytest.raises(Unavailable) as caught:
            await numbers.next()
        assert caught.value.outcome is Outcome.NOT_APPLIED
        place.flaky["a"].mute = False
        assert await numbers.next() == 3


async def test_nonsense_is_refused(place: Place) -> None:
    for block in (0, -1, 10**7, 1.5):
        with pytest.raises(InvalidArgument, match="blocks"):
            Sequence("orders", block=block)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="parties"):
        Barrier("gate", 61)
    async with on(place.node()):
        with pytest.raises(InvalidArgument, match="at once"):
            await Sequence("orders").reserve(0)


async def test_all_go_on_when_the_last_one_comes(place: Place) -> None:
    calls = [place.node(name) for name in "abc"]
    passed: list[tuple[int, int]] = []

    async def party(number: int) -> None:
        for _ in range(4):
            passed.append((await Barrier("gate", 6).wait(), number))  # noqa: PERF401 - each in its turn

    await asyncio.gather(*(start(calls[n % 3], lambda n=n: party(n)) for n in range(6)))
    assert sorted(passed) == [(turn, n) for turn in range(1, 5) for n in range(6)]
    assert [turn for turn, _ in passed] == sorted(turn for turn, _ in passed)
    await until(lambda: gone(place))


async def gone(place: Place) -> bool:
    return await place.keys("app/barrier/gate/at/") == []


async def test_who_gives_up_is_not_counted(place: Place) -> None:
    a, b = place.node("a"), place.node("b")
    with pytest.raises(DeadlineExceeded, match="not all 2 parties"):
        await start(a, Barrier("gate", 2, wait_s=0.05).wait)
    waiting = start(b, Barrier("gate", 2).wait)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert await start(a, Barrier("gate", 2).wait) == await waiting == 1


async def test_a_party_whose_node_died_is_not_counted(place: Place) -> None:
    a, b, c = place.node("a"), place.node("b"), place.node("c")
    dead = start(a, Barrier("gate", 2).wait)
    await until(lambda: arrived(place, 1))
    async with on(a) as binding:
        await binding.close()
    with pytest.raises(LeaseLost):
        await dead
    await until(lambda: arrived(place, 0))
    waiting = start(b, Barrier("gate", 2).wait)
    await until(lambda: arrived(place, 1))
    assert not waiting.done()
    assert await start(c, Barrier("gate", 2).wait) == await waiting == 1


async def arrived(place: Place, count: int) -> bool:
    return len(await place.keys("app/barrier/gate/at/")) == count


async def test_who_gives_up_and_cannot_leave_may_be_counted(place: Place) -> None:
    a, b = place.node("a", lease_s=60.0), place.node("b", lease_s=60.0)
    late = start(a, Barrier("gate", 2, wait_s=1.0).wait)
    await until(lambda: arrived(place, 1))
    place.flaky["a"].cut = True
    with pytest.raises(Unavailable, match="nobody knows") as caught:
        await late
    assert caught.value.outcome is Outcome.UNKNOWN
    assert await start(b, Barrier("gate", 2).wait) == 1, "it was counted"


async def test_who_is_cancelled_at_a_barrier_is_cancelled_also_while_the_store_is_away(place: Place) -> None:
    waiting = start(place.node("a"), Barrier("gate", 2).wait)
    await until(lambda: arrived(place, 1))
    place.flaky["a"].cut = True
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
