"""Cheap counters and histograms, read off only when somebody asks for them.

An update is a look-up in a dict and an addition on the event loop's thread: no locks, no label
objects. What they add up to is handed over as `Family` values, which `render` in
`coterie.telemetry.prometheus` turns into text at a scrape.

Names, kinds and units follow Prometheus: base units (seconds, bytes) as a suffix, `_total` for counters.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import msgspec

from ..errors import InvalidConfiguration

__all__ = ["LATENCY_BUCKETS_S", "Counter", "Distribution", "Family", "Histogram", "Sample", "gauge"]

LATENCY_BUCKETS_S: tuple[float, ...] = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)
"""Upper bounds in seconds, from a local call to one that waited for a deadline."""


class Distribution(msgspec.Struct, frozen=True, gc=False):
    """What a histogram holds for one set of labels.

    `counts` has one number a bucket, not added up, and one more for what lies above the last bound.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One value. `labels` are in the order of the family's `labels`."""

    labels: tuple[str, ...]
    value: float | Distribution


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """The samples of one metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()


def gauge(name: str, help_text: str, value: float) -> Family:
    """Return a metric of one value that may rise and fall."""
    return Family(name=name, kind="gauge", help=help_text, samples=(Sample((), value),))


class Counter:
    """Counts that only rise, one for each set of labels.

    The caller keeps the number of sets of labels bounded: nothing that a client makes up may be one.
    """

    __slots__ = ("_help", "_labels", "_name", "_values")

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        if not name.endswith("_total"):
            raise InvalidConfiguration(f"the name of a counter ends in _total, unlike {name!r}")
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Add `amount` to the count under `labels`."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def family(self) -> Family:
        """Return what was counted so far."""
        samples = tuple(Sample(labels, value) for labels, value in self._values.items())
        return Family(name=self._name, kind="counter", help=self._help, labels=self._labels, samples=samples)


class Histogram:
    """How values are distributed over fixed buckets, for each set of labels."""

    __slots__ = ("_bounds", "_help", "_labels", "_name", "_series")

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        *,
        bounds: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> None:
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise InvalidConfiguration(f"the bounds of the histogram {name!r} must rise")
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._series: dict[tuple[str, ...], _Series] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Count `value` under `labels`."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(len(self._bounds) + 1)
        series.counts[bisect_left(self._bounds, value)] += 1
        series.sum += value

    def family(self) -> Family:
        """Return what was observed so far."""
        samples = tuple(
            Sample(labels, Distribution(self._bounds, tuple(series.counts), series.sum))
            for labels, series in self._series.items()
        )
        return Family(
            name=self._name, kind="histogram", help=self._help, labels=self._labels, samples=samples
        )


class _Series:
    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0
