from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coterie.errors import InvalidConfiguration
from coterie.telemetry import Counter, Histogram, gauge, render


def test_counters_and_histograms_as_prometheus_reads_them() -> None:
    calls = Counter("calls_total", "Calls.", ("method",))
    calls.add(("a",))
    calls.add(("a",), 2)
    calls.add(('quo"te\n\\',))
    latency = Histogram("latency_seconds", "Latency.", ("method",), bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        latency.observe(("a",), value)
    text, content_type = render([calls.family(), latency.family(), gauge("members", "Members.", 3)])
    assert content_type.startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    assert samples == {
        ("calls_total", "a"): 3,
        ("calls_total", 'quo"te\n\\'): 1,
        ("latency_seconds_bucket", "0.1", "a"): 2,  # A bound belongs to its own bucket.
        ("latency_seconds_bucket", "1.0", "a"): 4,
        ("latency_seconds_bucket", "+Inf", "a"): 5,
        ("latency_seconds_count", "a"): 5,
        ("latency_seconds_sum", "a"): pytest.approx(8.65),
        ("members",): 3,
    }


def test_what_prometheus_would_misread_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="_total"):
        Counter("calls", "Calls.")
    for bounds in ((), (1.0, 0.5), (1.0, 1.0)):
        with pytest.raises(InvalidConfiguration, match="must rise"):
            Histogram("latency_seconds", "Latency.", bounds=bounds)
