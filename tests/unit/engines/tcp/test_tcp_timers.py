"""The timer wheel, on a loop whose clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from coterie.engines.tcp.timers import Deadlines


class TurnedLoop:
    """As much of a loop as the wheel uses."""

    def __init__(self) -> None:
        self.now = 1000.0
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
        """Let `seconds` pass, in steps of a millisecond, and call what is due."""
        for _ in range(round(seconds * 1000)):
            self.now = round(self.now + 0.001, 3)
            due = [timer for timer in self.timers if timer[0] <= self.now]
            self.timers = [timer for timer in self.timers if timer[0] > self.now]
            for _, callback, handle in due:
                if not handle.cancelled():
                    callback()


def wheel() -> tuple[TurnedLoop, Deadlines[str], list[tuple[str, float]]]:
    loop = TurnedLoop()
    called: list[tuple[str, float]] = []
    return loop, Deadlines(loop, lambda item: called.append((item, loop.now))), called  # type: ignore[arg-type]


def test_expires_at_its_time_or_a_tick_later() -> None:
    loop, deadlines, called = wheel()
    deadlines.at(loop.now + 0.5).add("half")
    deadlines.at(loop.now + 0.003).add("soon")
    loop.turn(1.0)
    (soon, first), (half, second) = called
    assert (soon, half) == ("soon", "half")
    assert 1000.003 <= first <= 1000.014
    assert 1000.5 <= second <= 1000.511


def test_a_later_deadline_set_first_does_not_delay_an_earlier_one() -> None:
    loop, deadlines, called = wheel()
    deadlines.at(loop.now + 30).add("late")
    deadlines.at(loop.now + 1).add("early")
    loop.turn(2.0)
    assert [item for item, _ in called] == ["early"]
    loop.turn(29.0)
    assert [item for item, _ in called] == ["early", "late"]


def test_what_is_discarded_does_not_expire() -> None:
    loop, deadlines, called = wheel()
    due = deadlines.at(loop.now + 0.1)
    due.add("answered")
    due.add("forgotten")
    due.discard("answered")
    loop.turn(0.2)
    assert [item for item, _ in called] == ["forgotten"]


def test_far_deadlines_share_few_ticks() -> None:
    loop, deadlines, called = wheel()
    for index in range(1000):
        deadlines.at(loop.now + 3600 + index / 100).add(f"{index}")
    assert len(deadlines.ticks) <= 12
    assert len(loop.set_timers) == 1
    loop.turn(3599.9)
    assert not called
    loop.turn(12.0)
    assert len(called) == 1000
    assert all(at >= 1000.0 + 3600 + int(item) / 100 for item, at in called)


def test_ticks_that_are_over_are_dropped_and_the_timer_rests() -> None:
    loop, deadlines, _ = wheel()
    for _ in range(100):
        deadlines.at(loop.now + 0.05)
        loop.turn(0.02)
    assert len(deadlines.ticks) <= 7
    loop.turn(1.0)
    assert not deadlines.ticks
    assert not loop.set_timers


def test_expiry_may_set_the_next_deadline() -> None:
    loop = TurnedLoop()
    called: list[float] = []

    def again(item: str) -> None:
        called.append(loop.now)
        if len(called) < 3:
            deadlines.at(loop.now + 0.1).add(item)

    deadlines: Deadlines[str] = Deadlines(loop, again)  # type: ignore[arg-type]
    deadlines.at(loop.now + 0.1).add("x")
    loop.turn(1.0)
    assert len(called) == 3


def test_close_forgets_all() -> None:
    loop, deadlines, called = wheel()
    deadlines.at(loop.now + 0.1).add("x")
    deadlines.close()
    loop.turn(1.0)
    assert not called
    assert not loop.set_timers
