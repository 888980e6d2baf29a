"""The waits between lost races."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.state._retry import Contention


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_are_bounded(attempt: int, chance: float) -> None:
    policy = Contention()
    assert 0 <= policy.wait_s(attempt, chance) <= policy.longest_wait_s


def test_the_first_retry_does_not_wait() -> None:
    assert Contention().wait_s(0, 0.9) == 0


def test_ceilings_double() -> None:
    policy = Contention(first_wait_s=0.001, longest_wait_s=1.0)
    ceilings = [policy.wait_s(attempt, 1.0) for attempt in range(1, 5)]
    assert ceilings == pytest.approx([0.002, 0.004, 0.008, 0.016])


@pytest.mark.parametrize(
    "bad", [{"attempts": 0}, {"first_wait_s": -1}, {"first_wait_s": 2, "longest_wait_s": 1}]
)
def test_nonsense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="contention"):
        Contention(**bad)  # type: ignore[arg-type]
