"""One timer for many deadlines, on a loop whose clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.engines.common.timers import TICK_S, Deadlines


class TurnedLoop:
    """As much of a loop as deadlines use. Calls its timers `early` seconds before their time."""

    def __init__(self, early: float = 0.0) -> None:
        self.now = 1000.0
        self.early = early
        self.timers: list[tuple[float, Callable[[], Any], asyncio.TimerHandle]] = []
        self._loop = asyncio.new_event_loop()
        self._loop.close()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], Any]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, (), self._loop)
        self.timers.append((when, callback, handle))
        return handle

    @property
    def set_timers(self) -> list[float]:
        return [when for when, _, handle in self.timers if not handle.cancelled()]

    def turn(self, seconds: float) -> None:
        """Let `seconds` pass, and call what is due on the way."""
        end = self.now + seconds
        while True:
            due = [timer for timer in self.timers if not timer[2].cancelled() and timer[0] <= end]
            if not due:
                break
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0] - self.early)
            timer[1]()
        self.now = end


class Calls:
    """What is under way, as a connection keeps it."""

    def __init__(self, early: float = 0.0) -> None:
        self.loop = TurnedLoop(early)
        self.under_way: dict[str, float] = {}
        self.expired: dict[str, float] = {}
        self.sweeps = 0
        self.deadlines = Deadlines(self.loop, self._sweep)  # type: ignore[arg-type]

    def begin(self, name: str, seconds: float) -> None:
        deadline = self.under_way[name] = self.loop.now + seconds
        if deadline < self.deadlines.next:
            self.deadlines.watch(deadline)

    def end(self, name: str) -> None:
        del self.under_way[name]

    def _sweep(self, now: float) -> float:
        self.sweeps += 1
        for name, deadline in list(self.under_way.items()):
            if deadline <= now:
                del self.under_way[name]
                self.expired[name] = self.loop.now
        return min(self.under_way.values(), default=inf)


@pytest.mark.parametrize("early", [0.0, 0.0009])
def test_expires_at_its_time_or_a_tick_later(early: float) -> None:
    calls = Calls(early)
    calls.begin("half", 0.5)
    calls.begin("soon", 0.003)
    calls.loop.turn(1.0)
    assert list(calls.expired) == ["soon", "half"]
    assert 1000.003 - early <= calls.expired["soon"] <= 1000.003 + TICK_S
    assert 1000.5 - early <= calls.expired["half"] <= 1000.5 + TICK_S


def test_a_later_deadline_set_first_does_not_delay_an_earlier_one() -> None:
    calls = Calls()
    calls.begin("late", 30)
    calls.begin("early", 1)
    calls.loop.turn(2.0)
    assert list(calls.expired) == ["early"]
    calls.loop.turn(29.0)
    assert list(calls.expired) == ["early", "late"]


def test_what_has_ended_does_not_expire() -> None:
    calls = Calls()
    calls.begin("answered", 0.1)
    calls.begin("forgotten", 0.1)
    calls.end("answered")
    calls.loop.turn(0.2)
    assert list(calls.expired) == ["forgotten"]


def test_a_steady_flow_of_calls_costs_one_sweep_in_their_time() -> None:
    calls = Calls()
    for number in range(3000):
        calls.begin(f"{number}", 5.0)
        calls.loop.turn(0.01)
        calls.end(f"{number}")
    assert not calls.expired
    assert calls.sweeps <= 6


def test_no_more_than_one_sweep_a_tick() -> None:
    calls = Calls()
    for number in range(1000):
        calls.begin(f"{number}", 0.02 + number / 10_000)
    calls.loop.turn(1.0)
    assert len(calls.expired) == 1000
    assert calls.sweeps <= 0.1 / TICK_S + 2


def test_only_one_timer_is_set_and_none_when_nothing_is_under_way() -> None:
    calls = Calls()
    for number in range(100):
        calls.begin(f"{number}", 10 - number / 20)
        assert len(calls.loop.set_timers) == 1
    calls.loop.turn(11.0)
    assert len(calls.expired) == 100
    assert not calls.loop.set_timers
    assert calls.deadlines.next == inf


def test_expiry_may_set_the_next_deadline() -> None:
    loop = TurnedLoop()
    swept: list[float] = []

    def sweep(now: float) -> float:
        swept.append(now)
        if len(swept) == 1:
            deadlines.watch(now + 0.1)  # From within, and earlier than what is returned.
        return now + 0.3 if len(swept) < 3 else inf

    deadlines = Deadlines(loop, sweep)  # type: ignore[arg-type]
    deadlines.watch(loop.now + 0.1)
    loop.turn(1.0)
    assert [round(at - 1000, 2) for at in swept] == pytest.approx([0.1, 0.2, 0.5], abs=0.011)


def test_close_forgets_all() -> None:
    calls = Calls()
    calls.begin("x", 0.1)
    calls.deadlines.close()
    calls.begin("y", 0.05)
    calls.loop.turn(1.0)
    assert not calls.expired
    assert not calls.loop.set_timers


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.0001, 3), st.booleans()), max_size=30))
def test_each_expires_in_its_tick(plan: list[tuple[float, float, bool]]) -> None:
    calls = Calls()
    expected = {}
    for number, (pause, seconds, answered) in enumerate(plan):
        calls.loop.turn(pause)
        calls.begin(f"{number}", seconds)
        if answered:
            calls.end(f"{number}")
        else:
            expected[f"{number}"] = calls.loop.now + seconds
    calls.loop.turn(10)
    assert calls.expired.keys() == expected.keys()
    for name, at in calls.expired.items():
        assert expected[name] <= at <= expected[name] + TICK_S + 1e-9
