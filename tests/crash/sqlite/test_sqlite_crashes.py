"""SIGKILL at random points. `COTERIE_CRASH_SEED` repeats the choices, though not the machine's timing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from crash_driver import Crew, Journals, judge

ROUNDS = 200
ROUNDS_OF_A_MUTANT = 25
ATTEMPTS = 8


@pytest.fixture
def seed() -> int:
    value = int(os.environ.get("COTERIE_CRASH_SEED") or random.randrange(2**32))
    print(f"COTERIE_CRASH_SEED={value}")
    return value


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_or_done_twice(tmp_path: Path, seed: int) -> None:
    with Crew(tmp_path, seed) as crew:
        for _ in range(ROUNDS):
            crew.round()
    journals = Journals.read(crew.journals)
    print(
        f"{crew.started} processes, {crew.leaders_killed} writers killed,",
        {kind: len(done) for kind, done in journals.acknowledged.items()},
    )
    assert crew.leaders_killed > ROUNDS / 4
    assert all(journals.acknowledged.values())
    broken = await judge(crew.path, journals)
    assert not broken, broken[:20]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mutant", ["acknowledge_early", "forget_sessions"])
async def test_a_mutant_is_caught(tmp_path: Path, seed: int, mutant: str) -> None:
    for attempt in range(ATTEMPTS):  # One or two are enough, nearly always.
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with Crew(folder, seed + attempt, mutant=mutant) as crew:
            for _ in range(ROUNDS_OF_A_MUTANT):
                crew.round(aimed=True)
        broken = await judge(crew.path, Journals.read(crew.journals))
        if broken:
            print(f"{len(broken)} broken promises, such as: {broken[0]}")
            return
    pytest.fail(f"{mutant} was not caught in {ATTEMPTS * ROUNDS_OF_A_MUTANT} rounds")
