"""What rate limits promise is judged without test code: what is right passes, mutants are found."""

from __future__ import annotations

import asyncio

import pytest

from coterie.simulation import Verdict, World, run
from coterie.simulation.environment import Stretch

from .test_campaign import explored


def test_a_limit_of_the_cluster_is_kept() -> None:
    progress = explored("limited:app", 6, duration_s=20.0).progress
    assert progress.verdicts == {Verdict.OK: 6}
    assert progress.idle() == []


def test_clocks_that_jump_and_drift_are_allowed_for() -> None:
    """In two of these universes more passes than would if all clocks were right."""
    progress = explored("limited:app", 3, seed=13, faults=("clock",)).progress
    assert progress.verdicts == {Verdict.OK: 3}
    assert progress.not_judged == {}


def test_the_world_knows_how_far_a_clock_was_off() -> None:
    found: list[Stretch] = []

    async def main(world: World) -> None:
        world.add_host("a")
        await asyncio.sleep(50)
        world.clock("a", drift_ppm=10_000)
        await asyncio.sleep(100)
        world.clock("a", drift_ppm=0, offset_s=-7)
        await asyncio.sleep(100)
        found.extend(world.host("a").clock.stretches())

    run(main)
    assert [tuple(round(each, 3) for each in stretch) for stretch in found] == [
        (0.0, 50.0, 0.0, 0.0),
        (50.0, 150.0, 0.0, 1.0),
        (150.0, 250.0, -7.0, -7.0),
    ]


@pytest.mark.parametrize("mutant", ["unchecked_rates", "lonely_rates", "free_batches", "earned_twice"])
def test_a_limit_with_a_safeguard_taken_away_is_found(mutant: str) -> None:
    result = explored(f"{mutant}:app", 5, duration_s=20.0).failing
    assert result is not None
    assert result.promise == "rate limits"
    assert " and no more than " in result.message
