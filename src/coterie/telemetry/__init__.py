"""Metrics: counted cheaply where things happen, rendered when they are scraped."""

from .metrics import LATENCY_BUCKETS_S, Counter, Distribution, Family, Histogram, Sample, gauge
from .prometheus import render

__all__ = [
    "LATENCY_BUCKETS_S",
    "Counter",
    "Distribution",
    "Family",
    "Histogram",
    "Sample",
    "gauge",
    "render",
]
