"""The pure decisions: whose turn it is, and for how long a node believes in its lease."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.coordination import Lease, duties
from coterie.coordination._machine import (
    Behind,
    Gone,
    Held,
    Mode,
    Place,
    Tenure,
    Ticket,
    backoff_s,
    holders,
    read_place,
    turn,
)
from coterie.coordination.duties import Duties, LeaderDuty
from coterie.engines.system import SystemEntropy
from coterie.errors import CorruptData, Unavailable


def queue(*modes: str, places: int = 1) -> list[Place]:
    """Return a queue in its order: x is exclusive, s is shared."""
    kinds = {"x": Mode.EXCLUSIVE, "s": Mode.SHARED}
    return [Place(str(n), 10 + n, Ticket(mode=kinds[mode], places=places)) for n, mode in enumerate(modes)]


def test_an_exclusive_one_holds_when_it_is_first_and_watches_the_one_before() -> None:
    line = queue("x", "x", "x")
    assert [turn(line, str(n)) for n in range(3)] == [Held(2), Behind("0"), Behind("1")]


def test_readers_hold_together_and_wait_for_the_last_writer_before_them() -> None:
    line = queue("s", "s", "x", "s", "s")
    assert [turn(line, str(n)) for n in range(5)] == [
        Held(4),
        Held(3),
        Behind("1"),
        Behind("2"),
        Behind("2"),
    ]


def test_a_semaphore_has_as_many_holders_as_places() -> None:
    line = queue("x", "x", "x", "x", places=2)
    assert [turn(line, str(n)) for n in range(4)] == [Held(3), Held(2), Behind(None), Behind(None)]


def test_who_is_not_in_the_queue_is_told_so() -> None:
    assert turn(queue("x"), "9") == Gone()
    assert turn([], "9") == Gone()


def test_an_entry_that_cannot_be_read_is_named() -> None:
    assert read_place("a", 3, msgspec.msgpack.encode(Ticket(node="n"))).ticket.node == "n"
    with pytest.raises(CorruptData, match="'a' is not one of this version"):
        read_place("a", 3, b"\xc1")


QUEUES = st.lists(st.sampled_from("xs"), min_size=1, max_size=8)


@given(QUEUES, st.randoms())
def test_the_order_of_reading_does_not_matter(modes: list[str], chance: object) -> None:
    line = queue(*modes)
    mixed = list(line)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert [turn(mixed, place.id) for place in line] == [turn(line, place.id) for place in line]


@given(QUEUES, st.integers(1, 3), st.data())
def test_never_two_writers_always_progress_and_nobody_holds_too_early(
    modes: list[str], places: int, data: st.DataObject
) -> None:
    """Let holders and waiters leave in any order: the promises hold at each step."""
    line = queue(*modes, places=places)
    done = 0
    while line:
        held = holders(line)
        assert held, "somebody always holds"
        if places > 1:
            assert held == line[:places]
        elif any(place.ticket.mode is Mode.EXCLUSIVE for place in held):
            assert len(held) == 1, "a writer is alone"
        gone = data.draw(st.sampled_from(line))
        line = [place for place in line if place != gone]
        after = holders(line)
        assert [place for place in held if place != gone] == after[: len(held) - (gone in held)] or (
            gone not in held
        ), "who holds goes on holding when another leaves"
        done += 1
    assert done == len(modes)


def test_a_node_stops_believing_before_the_engine_can_end_the_lease() -> None:
    tenure = Tenure(ttl_s=3.0, margin_s=0.25, renewed_at=100.0)
    assert tenure.believes(102.74)
    assert not tenure.believes(102.75)
    assert tenure.next_renewal_s(100.0) == pytest.approx(1.0)
    assert tenure.next_renewal_s(105.0) == 0
    tenure.renewed_at = 102.0
    assert tenure.believes(104.7)


def test_a_pause_after_failures_doubles_and_is_bounded_however_long_an_outage_lasts() -> None:
    pauses = [backoff_s(failures, first_s=0.05, longest_s=10.0) for failures in (0, 1, 2, 7, 8, 5000)]
    assert pauses == [0.05, 0.1, 0.2, 6.4, 10.0, 10.0]


async def test_a_leader_that_has_failed_a_thousand_times_is_still_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries, enough, sleep = 0, asyncio.Event(), asyncio.sleep

    class Down:
        def __init__(self, _name: str) -> None: ...

        async def __aenter__(self) -> None:
            nonlocal tries
            tries += 1
            if tries == 1100:
                enough.set()
            raise Unavailable("no store")

        async def __aexit__(self, *_: object) -> None: ...

    async def lead(_lease: Lease) -> None: ...

    monkeypatch.setattr(duties, "Election", Down)
    monkeypatch.setattr(duties.asyncio, "sleep", lambda _seconds: sleep(0))
    campaign = Duties(SystemEntropy())
    campaign.start([LeaderDuty("boss", lead)])
    async with asyncio.timeout(30):
        await enough.wait()
    await campaign.stop()


async def test_a_duty_that_ends_by_an_error_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise RuntimeError("a bug")

    campaign = Duties(SystemEntropy())
    campaign.run(fails(), "coterie-schedule-report")
    async with asyncio.timeout(10):
        while "coterie-schedule-report has ended" not in caplog.text:
            await asyncio.sleep(0)
    assert "a bug" in caplog.text
    await campaign.stop()
