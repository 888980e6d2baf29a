"""Circuit breakers: stop calling what fails, and find out when it works again. Pure: time is an input.

    CLOSED     errors or slow calls reach their ratio              -> OPEN
    OPEN       its time is over, the next call is a probe          -> HALF_OPEN
    HALF_OPEN  as many probes in a row succeed as are asked for    -> CLOSED
    HALF_OPEN  a probe fails, or is slow                           -> OPEN, for twice as long
    HALF_OPEN  of its probes nothing was heard for the longest time -> HALF_OPEN, with new ones

Source: Nygard, "Release It!" (2007); the sliding window and the ratio of slow calls after
resilience4j's documentation.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..errors import InvalidConfiguration

__all__ = ["Breaker", "BreakerConfig", "BreakerState", "Window"]

_SLICES = 10
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When a breaker opens, and for how long."""

    error_ratio: float = 0.5
    """Opens when at least this part of the calls in the window failed."""
    slow_ratio: float = 1.0
    """Opens when at least this part of the calls in the window took longer than `slow_s`."""
    slow_s: float = 5.0
    window_s: float = 10.0
    min_calls: int = 10
    """With fewer calls in the window it stays closed: two failures of three say little."""
    open_s: float = 1.0
    """How long it stays open at first. Each time a probe fails it is twice as long."""
    longest_open_s: float = 30.0
    probes: int = 2
    """How many calls must succeed in a row before it closes; as many may be under way at once."""

    def __post_init__(self) -> None:
        if not (0 < self.error_ratio <= 1 and 0 < self.slow_ratio <= 1):
            raise InvalidConfiguration(f"the ratios of a breaker must be above 0 and at most 1: {self}")
        if not (self.slow_s > 0 and 0 < self.window_s <= 3600 and 0 < self.open_s <= self.longest_open_s):
            raise InvalidConfiguration(f"the times of a breaker must be positive and in order: {self}")
        if self.min_calls < 1 or self.probes < 1:
            raise InvalidConfiguration(f"a breaker needs at least one call and one probe: {self}")


class Window:
    """Counts calls, failures and slow calls over the last `window_s` seconds, in ten slices."""

    __slots__ = ("_calls", "_current", "_failed", "_slice_s", "_slow", "calls", "failed", "slow")

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / _SLICES
        self._current = 0
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._calls = [0] * _SLICES
        self._failed = [0] * _SLICES
        self._slow = [0] * _SLICES
        self.calls: int = 0
        self.failed: int = 0
        self.slow: int = 0

    def add(self, now: float, *, failed: bool = False, slow: bool = False, calls: int = 1) -> None:
        """Count `calls` that ended at `now`, all alike."""
        current = int(now / self._slice_s)
        if current != self._current:
            self._advance(current)
        index = current % _SLICES
        self._calls[index] += calls
        self.calls += calls
        if failed:
            self._failed[index] += calls
            self.failed += calls
        if slow:
            self._slow[index] += calls
            self.slow += calls

    def _advance(self, current: int) -> None:
        passed = current - self._current
        if passed < 0 or passed >= _SLICES:
            self.clear()
        else:
            for each in range(self._current + 1, current + 1):
                index = each % _SLICES
                self.calls -= self._calls[index]
                self.failed -= self._failed[index]
                self.slow -= self._slow[index]
                self._calls[index] = self._failed[index] = self._slow[index] = 0
        self._current = current


class BreakerState(enum.StrEnum):
    """What a breaker does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """The breaker of one endpoint. Each call that `admit` lets through ends in one `record` or `forget`."""

    __slots__ = (
        "_config",
        "_open_s",
        "_opened_until",
        "_probing",
        "_probing_since",
        "_slow_s",
        "_succeeded",
        "state",
        "window",
    )

    def __init__(self, config: BreakerConfig | None = None) -> None:
        self._config = config or BreakerConfig()
        self._slow_s = self._config.slow_s
        self.window: Window = Window(self._config.window_s)
        self.state: BreakerState = BreakerState.CLOSED
        self._open_s = self._config.open_s
        self._opened_until = 0.0
        self._probing = 0
        self._probing_since = 0.0
        self._succeeded = 0

    def would_admit(self, now: float) -> bool:
        """Return what `admit` would, without letting anything through."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN:
            return now >= self._opened_until
        # A probe that was lost on the way, for whatever reason, must not shut the endpoint out for good.
        unheard = now >= self._probing_since + self._config.longest_open_s
        return self._probing < self._config.probes or unheard

    def admit(self, now: float) -> bool:
        """Return whether a call may be made now."""
        if self.state is BreakerState.CLOSED:
            return True
        if not self.would_admit(now):
            return False
        if self.state is BreakerState.OPEN or self._probing >= self._config.probes:
            self.state = BreakerState.HALF_OPEN
            self._probing = self._succeeded = 0
            self._probing_since = now
        self._probing += 1
        return True

    def wait_s(self, now: float) -> float:
        """Return for how long it will certainly admit nothing."""
        return max(self._opened_until - now, 0.0) if self.state is BreakerState.OPEN else 0.0

    def record(self, now: float, *, failed: bool, took_s: float) -> BreakerState | None:
        """Count a call that ended; return the new state if it changed.

        `failed` is for failures of the endpoint: not for cancelled calls, nor for what the caller did
        wrong. For those there is `forget`.
        """
        slow = took_s > self._slow_s
        if self.state is BreakerState.CLOSED:
            window = self.window
            window.add(now, failed=failed, slow=slow)
            if not failed and not slow:
                return None
            config, calls = self._config, window.calls
            if calls >= config.min_calls and (
                window.failed >= config.error_ratio * calls or window.slow >= config.slow_ratio * calls
            ):
                return self._open(now, config.open_s)
            return None
        if self.state is BreakerState.OPEN or now - took_s < self._probing_since - _ROUNDING_S:
            return None  # It was admitted before the breaker opened, so it is no probe.
        self._probing = max(self._probing - 1, 0)
        if failed or slow:
            return self._open(now, min(self._open_s * 2, self._config.longest_open_s))
        self._succeeded += 1
        if self._succeeded < self._config.probes:
            return None
        self.window.clear()
        self.state = BreakerState.CLOSED
        return self.state

    def succeeded(self, now: float, calls: int) -> None:
        """Count quick calls that succeeded a short while ago, while the breaker was closed."""
        if self.state is BreakerState.CLOSED:
            self.window.add(now, calls=calls)

    def forget(self, now: float, *, took_s: float) -> None:
        """Take back a call that says nothing about the endpoint."""
        if self.state is BreakerState.HALF_OPEN and now - took_s >= self._probing_since - _ROUNDING_S:
            self._probing = max(self._probing - 1, 0)

    def _open(self, now: float, open_s: float) -> BreakerState:
        self._open_s = open_s
        self._opened_until = now + open_s
        self.state = BreakerState.OPEN
        return self.state
