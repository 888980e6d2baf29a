"""A retry storm that feeds itself happens without the bounds of policies, and does not with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples/retry_storm.py"


@pytest.fixture(scope="module")
def storms() -> Iterator[ModuleType]:
    spec = spec_from_file_location("retry_storm_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def courses(storms: ModuleType) -> Mapping[str, object]:
    return {name: storms.storm(protection) for name, (protection, _) in storms.VARIANTS.items()}


def after_ten_seconds(storms: ModuleType, course: object) -> list[float]:
    return course.goodput[int(storms.CAUSE_S[1]) + 10 :]  # type: ignore[attr-defined, no-any-return]


@pytest.mark.slow
def test_without_bounds_it_stays_when_its_cause_is_gone(
    storms: ModuleType, courses: Mapping[str, object]
) -> None:
    course = courses["neither"]
    assert min(course.goodput[: int(storms.CAUSE_S[0])]) >= 0.95, "nothing is wrong before"  # type: ignore[attr-defined]
    assert max(after_ten_seconds(storms, course)) < 0.05, "still down, fifteen to twenty-five seconds later"
    assert storms.recovered_after_s(course) is None


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["both", "limit of the service"])
def test_with_them_it_is_over_within_ten_seconds(
    storms: ModuleType, courses: Mapping[str, object], variant: str
) -> None:
    course = courses[variant]
    assert storms.recovered_after_s(course) <= 10
    assert min(after_ten_seconds(storms, course)) >= 0.95


@pytest.mark.slow
def test_with_a_budget_alone_it_is_over_when_the_queue_is(
    storms: ModuleType, courses: Mapping[str, object]
) -> None:
    """No more than a tenth is repeated, so what had piled up is worked off, one day."""
    course = courses["budget of repeats"]
    offered = sum(course.offered)  # type: ignore[attr-defined]
    assert course.queries <= 1.1 * offered + 100  # type: ignore[attr-defined]
    assert storms.recovered_after_s(course) is not None


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_other_universes_recover_as_well(storms: ModuleType, seed: int) -> None:
    assert storms.recovered_after_s(storms.storm(storms.PROTECTED, seed=seed)) <= 10


@pytest.mark.slow
def test_the_command_shows_it(storms: ModuleType, courses: Mapping[str, object]) -> None:
    picture = ET.fromstring(storms.plot(courses))
    assert len(picture.findall("{*}polyline")) == len(courses)
    assert "neither" in storms.table(courses)
    assert "not at all" in storms.table(courses)
