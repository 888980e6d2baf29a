"""`coterie jobs` beside a node: what is due, what runs, what became of it; and after the node has gone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import asyncio

from coterie import App, JobPolicy

app = App("ticking")


@app.every(0.2)
async def sweep() -> None: ...


@app.every(0.2, policy=JobPolicy(missed="skip"))
async def stuck() -> None:
    await asyncio.Event().wait()


@app.every(0.2)
async def fails() -> None:
    raise ValueError("no tea")


@app.cron("0 3 29 2 *", tz="Europe/Berlin", policy=JobPolicy(overlap="queue"))
async def leap_day() -> None: ...
"""


class Place:
    """A folder with a program, and a node of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ticking.py").write_text(PROGRAM)
        command = [sys.executable, "-m", "coterie", "run", "ticking.py", "--name", "one", "--http", "off"]
        self.node = subprocess.Popen(
            [*command, "--json", "--until-eof"],
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.node.stdout
        assert '"ready"' in self.node.stdout.readline()

    def jobs(self, *words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "coterie", "jobs", "ticking.py", *words]
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout, ran.stderr

    def facts(self, *words: str) -> dict[str, Any]:
        code, out, err = self.jobs(*words, "--json")
        assert code == 0, err
        return {job["name"]: job for job in json.loads(out)["jobs"]}

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the facts once they are as wanted; the test's own time is over if they never are."""
        while not condition(found := self.facts()):
            pass
        return found

    def end(self) -> None:
        assert self.node.stdin
        self.node.stdin.close()
        self.node.wait(20)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.node.kill()
    with place.node:  # Closes the pipes, and waits.
        pass


@pytest.mark.slow
def test_what_is_scheduled_is_shown_while_it_runs_and_afterwards(place: Place) -> None:
    found = place.until(
        lambda jobs: (
            jobs["sweep"]["ticks"].get("done", 0) > 2
            and jobs["fails"]["ticks"].get("failed", 0) > 2
            and jobs["stuck"]["ticks"].get("skipped", 0) > 2
        )
    )
    assert list(found) == ["sweep", "stuck", "fails", "leap_day"]
    (running,) = found["stuck"]["running"]
    assert (running["node"], running["outcome"], running["node_gone"]) == ("one", "running", False)
    assert running["took_s"] is None
    assert {run["outcome"] for run in found["stuck"]["history"]} >= {"running", "skipped"}
    assert {run["started"] for run in found["stuck"]["history"] if run["outcome"] == "skipped"} == {None}
    failed = next(run for run in found["fails"]["history"] if run["outcome"] == "failed")
    assert (failed["error"], failed["node"], failed["attempt"]) == ("ValueError: no tea", "one", 1)
    assert 0 <= failed["took_s"] < 60
    assert abs(failed["started"] - failed["tick"]) < 60
    assert found["leap_day"]["schedule"] == {
        "words": "at 03:00, on day 29 of the month, in February, Europe/Berlin",
        "cron": "0 3 29 2 *",
        "tz": "Europe/Berlin",
    }
    assert found["leap_day"]["history"] == []

    code, out, _ = place.jobs()
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "every 0.2 seconds" in rows["sweep"]
    assert "one for " in rows["stuck"]
    assert "nobody" in rows["leap_day"]
    assert "failed" in rows["fails"]
    assert "never" in rows["leap_day"]

    place.end()  # What was stuck is given up; nobody takes it up.
    last = place.facts("fails", "--history", "3")
    assert list(last) == ["fails"]
    assert last["fails"]["history"] == place.facts()["fails"]["history"][-3:]
    code, out, _ = place.jobs("fails", "--history", "3")
    lines = out.splitlines()
    assert lines[0] == "fails: every 0.2 seconds"
    assert lines[1] == "missed: latest, overlap: skip, crashed: again, grace: 0.2 s"
    assert lines[2].startswith("next: ")
    assert lines[2].endswith(" late)")
    table = [line.split() for line in lines if line.startswith("fails ")]
    for row, run in zip(table, last["fails"]["history"], strict=True):
        assert run["outcome"] in row
    assert "ValueError: no tea" in place.jobs("fails")[1]
    assert "stuck: every 0.2 seconds" in place.jobs("stuck")[1]
    assert "runs now: one, which is gone" in place.jobs("stuck")[1]
    assert "running (its node is gone)" in place.jobs("stuck")[1]
    assert "No tick was due yet." in place.jobs("leap_day")[1]
