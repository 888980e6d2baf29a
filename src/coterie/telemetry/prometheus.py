"""Families of metrics as the text that Prometheus scrapes.

prometheus_client is imported at the first scrape, not when a node starts: it costs 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from .metrics import Distribution, Family

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["render"]


def render(families: Iterable[Family], accept: str = "") -> tuple[bytes, str]:
    """Return the text of `families` and its content type.

    `accept` is the scraper's Accept header: OpenMetrics when it asks for it, else the classic text.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    # A registry of our own for each scrape: the global one belongs to the program.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families))
    encode, content_type = choose_encoder(accept)
    text = encode(registry)
    return text, content_type


class _Collector:
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        # The registry asks for names when the collector is registered; there is nothing to clash with.
        return ()

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield _metric(family)


def _metric(family: Family) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for sample in family.samples:
            if isinstance(sample.value, Distribution):
                histogram.add_metric(sample.labels, _cumulative(sample.value), sample.value.sum)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for sample in family.samples:
        if not isinstance(sample.value, Distribution):
            metric.add_metric(sample.labels, sample.value)
    return metric


def _cumulative(distribution: Distribution) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in distribution.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(distribution.counts)), strict=True))
