"""Unmodified libraries work inside of the simulation, and do the same in every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie.simulation import Request, Target, Verdict, run_pinned

FILE = Path(__file__).parent / "library_scenarios.py"


@pytest.mark.parametrize(
    ("scenario", "library"),
    [
        ("aiohttp", "aiohttp"),
        ("redis", "redis"),
        ("postgres", "asyncpg"),
        ("postgres_over_tls", "asyncpg"),
        ("nats", "nats"),
    ],
)
def test_libraries(scenario: str, library: str) -> None:
    pytest.importorskip(library)
    first, second = (run_pinned(Target(f"{FILE}:{scenario}"), Request(seed=1)) for _ in range(2))
    assert first.verdict is Verdict.OK, f"{first.message}\n{first.detail}\n{first.output}"
    assert first.digest == second.digest
