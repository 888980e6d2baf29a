"""What calls usually take: a moving peak, and quantiles. Pure: time is an input."""

from __future__ import annotations

import math

__all__ = ["PeakEwma", "Quantiles"]

_PER_DOUBLING = 8
"""Bins of a histogram for each factor of two: a quantile is exact to about 9 percent."""
_LOWEST_S = 1e-6
_BINS = _PER_DOUBLING * 30  # Up to about a thousand seconds.


class PeakEwma:
    """An average of latencies that jumps up at once and decays with time.

    After Finagle's peak EWMA: what has just been slow is believed to be slow, and is forgiven by and by.
    """

    __slots__ = ("_decay_s", "_since", "seconds")

    def __init__(self, decay_s: float = 10.0) -> None:
        self._decay_s = decay_s
        self._since = 0.0
        self.seconds: float = 0.0

    def add(self, now: float, took_s: float) -> None:
        """Take in a call that ended at `now` and took `took_s`."""
        known = self.seconds
        if took_s >= known:
            self.seconds = took_s
        else:
            weight = math.exp((self._since - now) / self._decay_s)
            self.seconds = took_s + (known - took_s) * weight
        self._since = now

    def at(self, now: float) -> float:
        """Return the average, decayed to `now`."""
        return self.seconds * math.exp((self._since - now) / self._decay_s)


class Quantiles:
    """Quantiles of what was added over the last one to two `window_s`, from two histograms in turn.

    The bins are logarithmic (as in HdrHistogram), so that an answer is within about 9 percent.
    """

    __slots__ = ("_bins", "_count", "_old", "_old_count", "_until", "_window_s")

    def __init__(self, window_s: float = 10.0) -> None:
        self._window_s = window_s
        self._until = 0.0
        self._bins = [0] * _BINS
        self._old = [0] * _BINS
        self._count = self._old_count = 0

    def add(self, now: float, took_s: float) -> None:
        """Take in a call that ended at `now` and took `took_s`."""
        if now >= self._until:
            self._turn(now)
        index = int(math.log2(took_s / _LOWEST_S) * _PER_DOUBLING) if took_s > _LOWEST_S else 0
        self._bins[min(index, _BINS - 1)] += 1
        self._count += 1

    @property
    def count(self) -> int:
        """How many calls the quantiles rest on."""
        return self._count + self._old_count

    def at(self, quantile: float) -> float | None:
        """Return the latency in seconds below which that part of the calls stayed; None without calls."""
        if not self.count:
            return None
        rank = min(max(quantile, 0.0), 1.0) * self.count
        seen = 0
        for index, (new, old) in enumerate(zip(self._bins, self._old, strict=True)):
            seen += new + old
            if seen >= rank and seen:
                return _LOWEST_S * math.exp2((index + 1) / _PER_DOUBLING)
        return None

    def _turn(self, now: float) -> None:
        stale = now >= self._until + self._window_s
        self._old, self._old_count = ([0] * _BINS, 0) if stale else (self._bins, self._count)
        self._bins, self._count = [0] * _BINS, 0
        self._until = now + self._window_s
