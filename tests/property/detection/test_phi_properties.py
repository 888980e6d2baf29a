"""φ accrual, whatever the heartbeats: it is the paper's formula, it rises in silence, and it forgives."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coterie.detection import PhiAccrual, PhiConfig
from coterie.errors import InvalidConfiguration

CONFIG = PhiConfig(expected_s=0.5, window=8)
gaps = st.lists(st.floats(0, 3.9), max_size=40)
silences = st.floats(0, 1000)


def fed(beats: list[float], config: PhiConfig = CONFIG) -> tuple[PhiAccrual, float]:
    phi, now = PhiAccrual(config, 0.0), 0.0
    for gap in beats:
        now += gap
        phi.heartbeat(now)
    return phi, now


@given(gaps, silences, silences)
def test_it_only_rises_until_the_next_heartbeat(beats: list[float], one: float, other: float) -> None:
    phi, now = fed(beats)
    earlier, later = sorted((one, other))
    assert 0 <= phi.phi(now + earlier) <= phi.phi(now + later) + 1e-9


@given(gaps, st.floats(0, 5))
def test_it_is_the_formula_of_the_paper(beats: list[float], silence: float) -> None:
    phi, now = fed(beats)
    window = [0.375, 0.625, *beats][-8:]
    mean, deviation = statistics.fmean(window), max(statistics.pstdev(window), 0.1)
    assert phi.mean_s == pytest.approx(mean, abs=1e-9)
    assert phi.deviation_s == pytest.approx(deviation, abs=1e-6)
    later = statistics.NormalDist(0, 1).cdf(-(silence - mean) / deviation)
    assume(later > 1e-12)
    assert phi.phi(now + silence) == pytest.approx(-math.log10(later), abs=1e-2)


@given(st.floats(1, 10))
def test_far_out_it_goes_on_smoothly(deviations: float) -> None:
    phi, now = fed([])
    edge = phi.mean_s + 20 * math.sqrt(2) * phi.deviation_s
    below, above = phi.phi(now + edge - 1e-9), phi.phi(now + edge + 1e-9)
    assert above == pytest.approx(below, rel=1e-6)
    assert phi.phi(now + edge + deviations) > above


@given(gaps, st.floats(4.1, 1000), st.floats(0, 5))
def test_an_outage_is_not_learned_from(beats: list[float], outage: float, silence: float) -> None:
    phi, now = fed(beats)
    before = phi.phi(now + silence)
    phi.heartbeat(now + outage)
    assert phi.phi(now + outage + silence) == pytest.approx(before, abs=1e-6)


@given(gaps, st.floats(0.1, 100), st.floats(0, 5))
def test_a_pause_of_the_listener_is_forgiven(beats: list[float], pause: float, silence: float) -> None:
    phi, now = fed(beats)
    before = phi.phi(now + silence)
    later = now + silence + pause
    phi.forgive(pause, later)
    assert phi.phi(later) == pytest.approx(before, abs=1e-6)


def test_regular_heartbeats_raise_no_alarm_and_a_death_does_soon() -> None:
    phi, now = fed([0.5] * 20)
    assert phi.phi(now + 0.5) < 1
    assert phi.phi(now + 0.9) < 8 < phi.phi(now + 1.1)


def test_who_beats_irregularly_gets_more_time() -> None:
    regular, now = fed([0.5] * 20)
    irregular, later = fed([0.2, 0.8] * 10)
    assert irregular.phi(later + 1.0) < regular.phi(now + 1.0)


@pytest.mark.parametrize(
    "wrong", [{"expected_s": 0}, {"window": 1}, {"least_deviation_s": 0}, {"longest_s": 0.1}]
)
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidConfiguration):
        PhiConfig(**wrong)  # type: ignore[arg-type]
