"""What a program sees of the machine it runs on: clocks, entropy, names and numbers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from .tape import Tape

if TYPE_CHECKING:
    from .disk import Disk
    from .loop import VirtualLoop

__all__ = ["EPOCH_S", "Environment", "HostClock", "Stretch"]

EPOCH_S = 1_767_225_600.0
"""When every universe begins by true time: 2026-01-01 00:00:00 UTC, in seconds since 1970."""


class Stretch(NamedTuple):
    """A time in which nobody touched a machine's clocks; both ends are true time."""

    begin_s: float
    end_s: float
    first_ahead_s: float
    """How far its wall clock was ahead of true time at the beginning."""
    last_ahead_s: float
    """How far it was at the end; in between it went evenly from one to the other."""


class HostClock:
    """The clocks of one machine. True time is that of the loop, from 0.

    `drift_ppm` (parts in a million) makes both clocks run fast or slow, `offset_s` sets the wall clock
    off. Timers follow true time.
    """

    __slots__ = (
        "_base_monotonic_s",
        "_base_s",
        "_base_wall_s",
        "_began",
        "_loop",
        "_past",
        "_rate",
        "offset_s",
    )

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset_s: float = 0.0
        self._rate = 1.0
        self._base_s = 0.0
        self._base_monotonic_s = 0.0
        self._base_wall_s = EPOCH_S
        self._past: list[Stretch] = []
        self._began = (0.0, 0.0)
        """When the stretch that lasts began, and how far the wall clock was ahead then."""

    @property
    def drift_ppm(self) -> float:
        return (self._rate - 1.0) * 1e6

    def wall(self) -> float:
        """Return seconds since 1970-01-01 UTC, as this machine believes."""
        return self._base_wall_s + (self._loop.time() - self._base_s) * self._rate + self.offset_s

    def monotonic(self) -> float:
        """Return seconds since the universe began, by this machine's oscillator."""
        return self._base_monotonic_s + (self._loop.time() - self._base_s) * self._rate

    def set(self, *, offset_s: float | None = None, drift_ppm: float | None = None) -> None:
        """Jump the wall clock to an offset from true time, or change the rate from here on."""
        self._past.append(self._stretch())
        if drift_ppm is not None:
            now = self._loop.time()
            wall = self.wall() - self.offset_s
            self._base_monotonic_s, self._base_wall_s, self._base_s = self.monotonic(), wall, now
            self._rate = 1.0 + drift_ppm / 1e6
        if offset_s is not None:
            # What drift has added up to is gone as well: this is what a clock that is set does.
            self._base_wall_s = EPOCH_S + self._base_s
            self._base_wall_s += (self._loop.time() - self._base_s) * (1.0 - self._rate)
            self.offset_s = offset_s
        self._began = (self._loop.time(), self._ahead_s())

    def stretches(self) -> tuple[Stretch, ...]:
        """Return how far the wall clock was off true time until now, in the order of time."""
        return (*self._past, self._stretch())

    def _stretch(self) -> Stretch:
        begin_s, ahead_s = self._began
        return Stretch(begin_s, self._loop.time(), ahead_s, self._ahead_s())

    def _ahead_s(self) -> float:
        return self.wall() - EPOCH_S - self._loop.time()


class Environment:
    """The machine as the code of one scope sees it. The world has one as well."""

    def __init__(
        self, loop: VirtualLoop, tape: Tape, name: str, number: int, disk: Disk | None = None
    ) -> None:
        self.hostname = name
        self.pid: int = 1000 + number
        self.clock: HostClock = HostClock(loop)
        self.disk = disk
        self.random: random.Random = random.Random(tape.stream(f"entropy/{name}").seed())  # noqa: S311 - repeatable is the point

    def entropy(self, size: int) -> bytes:
        """Return `size` bytes: what the machine's `urandom` gives."""
        return self.random.randbytes(size)
