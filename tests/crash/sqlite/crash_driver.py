"""Kills processes that share a SQLite file at random points, and holds the file against their journals."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coterie.engines.sqlite import open_engine
from coterie.engines.system import SystemClock, SystemEntropy

WORKER = Path(__file__).with_name("crash_worker.py")
PATIENCE_S = 30.0


class Crew:
    """Several workers on one file. A worker that was killed is replaced by one with a new name."""

    def __init__(self, folder: Path, seed: int, *, size: int = 3, mutant: str = "none") -> None:
        self.path = folder / "crash.db"
        self.journals = folder / "journals"
        self.journals.mkdir()
        self.random = random.Random(seed)
        self.size = size
        self.mutant = mutant
        self.workers: list[subprocess.Popen[bytes]] = []
        self.started = 0
        self.leaders_killed = 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.wait()

    def fill(self) -> None:
        """Start as many workers as are missing."""
        while len(self.workers) < self.size:
            self.started += 1
            name = f"w{self.started}"
            self.workers.append(
                subprocess.Popen([sys.executable, WORKER, self.path, name, self.journals / name, self.mutant])
            )

    def leader(self) -> subprocess.Popen[bytes] | None:
        """Return who holds the writer's lock, as the kernel says."""
        try:
            inode = self.path.with_name(self.path.name + "-writer").stat().st_ino
        except FileNotFoundError:
            return None
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return next((worker for worker in self.workers if worker.pid == int(fields[4])), None)
        return None

    def written(self) -> int:
        return sum(entry.stat().st_size for entry in os.scandir(self.journals))

    def round(self, *, aimed: bool = False) -> None:
        """Wait until something was written, then kill one, two or all at some moment, or just the writer."""
        self.fill()
        before, patience = self.written(), time.monotonic() + PATIENCE_S
        while self.written() < before + 2000:
            assert time.monotonic() < patience, f"nothing is written after {self.started} starts"
            assert all(worker.poll() is None for worker in self.workers), "a worker ended by itself"
            time.sleep(0.002)
        time.sleep(self.random.random() * 0.02)
        victims = self.random.sample(self.workers, self.random.choice([1, 1, 1, 2, self.size]))
        leader = self.leader()
        if aimed and leader is not None:
            victims = [leader]
        elif leader is not None and leader not in victims and self.random.random() < 0.6:
            victims[0] = leader
        self.leaders_killed += leader in victims
        for victim in victims:
            victim.kill()
        for victim in victims:
            victim.wait()
            self.workers.remove(victim)


@dataclass(slots=True)
class Journals:
    """What all workers noted."""

    invoked: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, list[tuple[Any, int]]] = field(
        default_factory=lambda: {"put": [], "append": [], "count": []}
    )
    broken: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Journals:
        self = cls()
        for journal in sorted(folder.iterdir()):
            for line in journal.read_bytes().splitlines():
                match json.loads(line):
                    case ["i", id_]:
                        self.invoked.add(id_)
                        self.tried[id_] = self.tried.get(id_, 0) + 1
                    case ["r", id_]:
                        self.refused[id_] = self.refused.get(id_, 0) + 1
                    case ["a", kind, id_, result]:
                        self.acknowledged[kind].append((id_, result))
                    case ["!", text]:
                        self.broken.append(f"{journal.name}: {text}")
        return self


async def judge(path: Path, journals: Journals) -> list[str]:
    """Return every broken promise: nothing acknowledged is lost, nothing is applied twice or from nowhere."""
    broken = list(journals.broken)
    engine = await open_engine(f"sqlite:///{path}", clock=SystemClock(), entropy=SystemEntropy())
    try:
        versions: dict[str, int] = {}
        after, more = "", True
        while more:
            page = await engine.store.scan("", after=after, limit=10_000)
            versions.update((entry.key, entry.version) for entry in page.entries)
            after, more = page.entries[-1].key, page.more
        counter = await engine.store.get("counter")
        records: list[tuple[str, int]] = []
        offset = 0
        while segment := (await engine.log.read("topic", 0, offset, limit=10_000)).records:
            records += [(stored.record.value.decode(), stored.offset) for stored in segment]
            offset = segment[-1].offset + 1
    finally:
        await engine.close()
    broken += [
        f"{key} was acknowledged at {revision} and is at {versions.get(key)}"
        for key, revision in journals.acknowledged["put"]
        if versions.get(key) != revision
    ]
    broken += [
        f"{key} was never written" for key in versions if key != "counter" and key not in journals.invoked
    ]
    places = dict(records)
    if len(places) != len(records):
        broken.append(f"{len(records) - len(places)} records were appended twice")
    broken += [
        f"{id_} was acknowledged at offset {at} and is at {places.get(id_)}"
        for id_, at in journals.acknowledged["append"]
        if places.get(id_) != at
    ]
    broken += [f"{id_} was never appended" for id_ in places if id_ not in journals.invoked]
    if [at for _, at in records] != list(range(len(records))):
        broken.append("the offsets have a gap")
    revisions = [at for kind in ("put", "count") for _, at in journals.acknowledged[kind]]
    if len(set(revisions)) != len(revisions):
        broken.append("two commits were given one revision")
    broken += judge_counter(journals, 0 if counter is None else int(counter.value))
    return broken


def judge_counter(journals: Journals, value: int) -> list[str]:
    """Each number was written by exactly one commit, and that was acknowledged or its outcome is unknown."""
    written = [number for number, _ in sorted(journals.acknowledged["count"], key=lambda pair: pair[1])]
    broken = []
    if written != sorted(set(written)):
        broken.append("the counter did not rise by one with each version")
    if written and written[-1] > value:
        broken.append(f"the counter was acknowledged at {written[-1]} and is at {value}")
    known = set(written)
    for number in range(1, value + 1):
        id_ = f"count/{number}"
        if number not in known and journals.tried.get(id_, 0) <= journals.refused.get(id_, 0):
            broken.append(f"nobody wrote {number} to the counter")
    return broken
