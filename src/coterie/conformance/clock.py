"""The conformance suite of the `Clock` port. The fixture is the clock itself."""

from __future__ import annotations

import asyncio
import sys

from ..ports.clock import Clock
from ._expect import expect
from .suite import Suite, check

__all__ = ["ClockSuite"]

_CLOCK_SLACK_S = 0.003
"""Timers of a loop may fire early by its clock's resolution, a millisecond on some."""


@check
async def durations_never_shrink(clock: Clock) -> None:
    """`monotonic` and `boottime` never go back, between any two calls."""
    for name, read in (("monotonic", clock.monotonic), ("boottime", clock.boottime)):
        last = read()
        for _ in range(2000):
            now = read()
            expect(now >= last, f"{name} went back from {last!r} to {now!r}")
            last = now


@check
async def durations_go_on_while_waiting(clock: Clock) -> None:
    """`monotonic` and `boottime` are in seconds and advance while a task sleeps."""
    before = clock.monotonic(), clock.boottime()
    await clock.sleep(0.1)
    after = clock.monotonic(), clock.boottime()
    for name, start, end in zip(("monotonic", "boottime"), before, after, strict=True):
        # A simulated clock may drift, and a busy machine oversleeps; a wrong unit is off by far more.
        expect(0.05 <= end - start <= 50, f"{name} advanced by {end - start} s over a sleep of 0.1 s")


@check
async def sleeping_takes_its_time(clock: Clock) -> None:
    """`sleep` returns after at least its seconds of the event loop's time."""
    loop = asyncio.get_running_loop()
    for seconds in (0.01, 0.05):
        began = loop.time()
        await clock.sleep(seconds)
        expect(
            loop.time() - began >= seconds - _CLOCK_SLACK_S,
            f"a sleep of {seconds} s took {loop.time() - began} s",
        )


@check
async def sleeping_lets_others_run(clock: Clock) -> None:
    """A sleep of no time gives the other tasks their turn, and a long one can be cancelled."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    try:
        for seconds in (0, 0.0, -1.0):
            before = turns
            await clock.sleep(seconds)
            expect(turns > before, f"no other task ran during a sleep of {seconds} s")
    finally:
        counting.cancel()
    sleeping = asyncio.create_task(clock.sleep(3600))
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.wait([sleeping], timeout=15)
    expect(sleeping.cancelled(), "a sleep cannot be cancelled")


@check
async def the_time_is_in_seconds(clock: Clock) -> None:
    """`time` is in seconds since 1970, so that it can be shown to people."""
    now = clock.time()
    # From 2001 to the year 5138: neither milliseconds nor a time since boot.
    expect(1e9 < now < 1e11, f"the time is {now!r}")


class ClockSuite(Suite[Clock]):
    """Every promise of `coterie.ports.clock`."""

    port = "clock"

    def __init__(self) -> None:
        super().__init__((sys.modules[__name__],))
