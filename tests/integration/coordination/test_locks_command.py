"""`coterie locks` beside a process that holds and waits: what is shown, what is named, what is taken away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import asyncio

from coterie import App

app = App("depot")


async def grab(first: str, second: str) -> None:
    async with app.lock(first):
        await asyncio.sleep(0.2)
        async with app.lock(second, wait_s=None):
            pass


async def follow() -> None:
    lease = await app.election("boss").acquire()
    print("leads", flush=True)
    print("lost:", await lease.wait_lost(), flush=True)


async def main() -> None:
    async with app.connect():
        tasks = [
            asyncio.create_task(grab("x", "y"), name="one"),
            asyncio.create_task(grab("y", "x"), name="other"),
            asyncio.create_task(follow(), name="leader"),
        ]
        await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main())
"""


class Depot:
    """A folder with a program, and a process of it that is stuck."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "depot.py").write_text(PROGRAM)
        self.process = subprocess.Popen(
            [sys.executable, "depot.py"], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        assert self.line() == "leads"

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def coterie(self, *words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "coterie", *words]
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout, ran.stderr

    def facts(self) -> dict[str, Any]:
        code, out, err = self.coterie("locks", "depot.py", "--json")
        assert code in {0, 1}, err
        found: dict[str, Any] = json.loads(out)
        assert bool(found["deadlocks"]) == (code == 1)
        return found


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    depot = Depot(tmp_path)
    yield depot
    depot.process.kill()
    depot.process.communicate()


@pytest.mark.slow
def test_locks_are_listed_a_deadlock_is_named_and_a_lock_taken_away(depot: Depot) -> None:
    while not (facts := depot.facts())["deadlocks"]:
        pass
    locks = {(each["kind"], each["name"]): each for each in facts["locks"]}
    assert set(locks) == {("lock", "x"), ("lock", "y"), ("election", "boss")}
    (holder,), (waiter,) = locks["lock", "x"]["holders"], locks["lock", "x"]["waiters"]
    assert (holder["task"], waiter["task"], waiter["waits_for"]) == ("one", "other", [holder["token"]])
    assert waiter["token"] > holder["token"]
    assert 0 <= waiter["age_s"] <= holder["age_s"] < 60
    (deadlock,) = facts["deadlocks"]
    assert "other on caller, which waits for the lock 'x', held by one on caller" in deadlock

    code, out, _ = depot.coterie("locks", "depot.py")
    assert code == 1
    assert out.split("\n")[0].split() == ["kind", "name", "token", "node", "task", "since", "waits", "for"]
    assert "deadlock: one on caller waits for the lock 'y'" in out

    code, _, err = depot.coterie("locks", "release", "depot.py", "boss", "--kind", "election")
    assert code == 2
    assert "may be at work" in err
    assert "--force" in err
    code, out, err = depot.coterie("locks", "release", "depot.py", "boss", "--kind", "election", "--force")
    assert (code, "was taken from leader on caller" in out, "warning" in err) == (0, True, True)
    assert depot.line() == "lost: somebody released it by force"
    code, _, err = depot.coterie("locks", "release", "depot.py", "nothing", "--force", "--json")
    assert code == 1


@pytest.mark.slow
def test_without_locks_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "depot.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "coterie", "locks", "list", "depot.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "Nothing is held.\n"
