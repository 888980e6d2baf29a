"""The power fails at random moments: with our default no acknowledged commit is lost, with NORMAL some."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from power_disk import Record, Step, after_power_loss

from coterie.engines.sqlite import open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.ports.store import Commit, Put

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="SQLite's library is found by way of /proc"),
]
COMMITS = 60
KEYS = 8
SIZE = 80_000
"""So large that the log is copied into the database twice on the way."""
CRASHES = 30


@pytest.fixture
def choices() -> random.Random:
    seed = int(os.environ.get("COTERIE_CRASH_SEED") or random.randrange(2**32))
    print(f"COTERIE_CRASH_SEED={seed}")
    return random.Random(seed)


async def recorded(folder: Path, query: str) -> list[Step]:
    """Commit one after the other, and return all that SQLite did, with a note at each acknowledgement."""
    record = Record()
    with record.recording():
        url = f"sqlite:///{folder}/power.db{query}"
        engine = await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
        try:
            for number in range(1, COMMITS + 1):
                value = b"%d " % number + random.randbytes(SIZE)
                await engine.store.commit(Commit((Put(f"key-{number % KEYS}", value),)))
                record.note(str(number))
        finally:
            await engine.close()
    return record.steps


async def numbers_in(folder: Path) -> list[int]:
    """Return the numbers of the commits whose values are in the file."""
    url = f"sqlite:///{folder}/power.db"
    engine = await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
    try:
        entries = (await engine.store.scan("")).entries
        return sorted(int(entry.value.partition(b" ")[0]) for entry in entries)
    finally:
        await engine.close()


def moments(steps: list[Step], choices: random.Random) -> Iterator[tuple[int, list[Step]]]:
    """Give moments at which the power fails: the number that was acknowledged last, and the steps before."""
    for _ in range(CRASHES):
        before = steps[: choices.randrange(len(steps) + 1)]
        yield max((int(step.name) for step in before if step.kind == "note"), default=0), before


async def lost(steps: list[Step], folder: Path, choices: random.Random) -> list[int]:
    """Return how many acknowledged commits each loss of power took."""
    losses = []
    for crash, (acknowledged, before) in enumerate(moments(steps, choices)):
        place = folder / f"crash-{crash}"
        place.mkdir()
        after_power_loss(before, place, choices.randrange(2**32))
        found = await numbers_in(place)
        newest = max(found, default=0)
        # Whatever was lost, what is left is as it was after some commit: nothing is torn or out of order.
        assert found == list(range(max(1, newest - KEYS + 1), newest + 1))
        losses.append(max(0, acknowledged - newest))
    return losses


async def test_our_default_loses_nothing(tmp_path: Path, choices: random.Random) -> None:
    steps = await recorded(tmp_path, "")
    assert sum(step.kind == "sync" for step in steps) >= COMMITS
    assert sum(step.kind == "write" and step.name == "power.db" for step in steps) > KEYS
    assert not any(await lost(steps, tmp_path, choices))


async def test_synchronous_normal_loses_commits_and_says_so(tmp_path: Path, choices: random.Random) -> None:
    steps = await recorded(tmp_path, "?synchronous=normal")
    assert sum(step.kind == "sync" for step in steps) < COMMITS / 2
    losses = await lost(steps, tmp_path, choices)
    print(f"lost in {sum(map(bool, losses))} of {CRASHES}, at most {max(losses)} commits")
    assert any(losses)
