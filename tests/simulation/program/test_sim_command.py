"""`coterie sim`, as a person and as a machine use it; and every command in docs/sim.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from coterie.cli.sim_report import TextReport
from coterie.simulation.program import Campaign, Trial

ROOT = Path(__file__).parents[3]
PROGRAMS = Path(__file__).parent / "programs"
PAGE = (ROOT / "docs" / "sim.md").read_text()
BLOCK = re.compile(r"(?:<!-- exits with (\d) -->\n)?^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """A command on the page, what it prints there, and its exit code."""

    words: tuple[str, ...]
    lines: tuple[str, ...]
    code: int


def shown() -> list[Shown]:
    found = []
    for code, text in BLOCK.findall(PAGE):
        command, *lines = text.splitlines()
        found.append(
            Shown(tuple(shlex.split(command.removeprefix("$ coterie "))), tuple(lines), int(code or 0))
        )
    return found


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.run(
        (sys.executable, "-m", "coterie", *words),
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for program in PROGRAMS.glob("*.py"):
        shutil.copy(program, tmp_path)
    return tmp_path


def beginning(line: str) -> str:
    """Return what a line begins with, without its numbers: they follow from all of the code."""
    return " ".join(re.sub(r"\d[\d,.]*", "#", line).replace("'", " ").split()[:2])


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_commands_of_the_page_do_what_it_says(folder: Path) -> None:
    """In one folder, one after the other, since some use what others leave."""
    commands = shown()
    assert len(commands) >= 4
    for command in commands:
        done = run(*command.words, cwd=folder)
        assert (done.returncode, done.stderr) == (command.code, ""), done.stdout + done.stderr
        printed = {beginning(line) for line in done.stdout.splitlines()}
        missing = [line for line in command.lines if line and beginning(line) not in printed]
        # Which map is broken, and by which operations, is up to the seed.
        assert [line for line in missing if not line.startswith(("The map", "    ", "  at"))] == []


def test_a_failure_is_told_to_people(folder: Path) -> None:
    done = run(
        "sim", "counters.py:torn", "--time", "20s", "--faults", "none", "--universes", "10", cwd=folder
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "breaks a promise (eventually nothing_is_lost)" in done.stdout
    assert "'nothing_is_lost' does not hold: it returns False, 5 s after the last fault." in done.stdout
    assert "Faults (0)\n  none is needed" in done.stdout
    seed = re.findall(r"Universe (\d+) breaks", done.stdout)[0]
    diagram = re.findall(r"Diagram\n  (\S+)", done.stdout)[0]
    assert f"seed {seed} " in (folder / diagram).read_text()
    replay = re.findall(r"Replay\n  coterie (.+)", done.stdout)[0]
    assert "--faults none --time 20s --replay" in replay
    again = run(*shlex.split(replay), cwd=folder)
    assert again.returncode == 1
    assert "breaks a promise (eventually nothing_is_lost)" in again.stdout


def test_a_failure_is_told_to_machines(folder: Path) -> None:
    done = run("sim", "counters.py:faulty", "--time", "5s", "--universes", "3", "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")
    facts = json.loads(done.stdout)
    universe = facts["universe"]
    assert facts["universes"] >= 1
    assert facts["verdicts"] == {"violated": 1}
    assert universe["promise"] == "workload divides"
    assert universe["repeatable"] is True
    assert universe["faults"] == []
    assert "ZeroDivisionError" in universe["message"]
    assert (folder / universe["diagram"]).is_file()
    assert universe["replay"].startswith("coterie sim counters.py:faulty --time 5s --replay ")


def test_what_is_right_is_told_with_its_coverage(folder: Path) -> None:
    words = (
        "sim",
        "counters.py:right",
        "--time",
        "20s",
        "--universes",
        "4",
        "--faults",
        "pause,clock",
        "--json",
    )
    done = run(*words, cwd=folder)
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert facts["verdicts"] == {"ok": 4}
    assert set(facts["faults"]) | set(facts["never_fired"]) == {"pause", "clock"}
    assert facts["operations"]["ok"] > 50
    assert facts["interrupted"] is False
    assert not (folder / ".coterie").exists()


def test_what_could_not_be_judged_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    trial = Trial(app="shop:app")
    campaign = Campaign(trial, path=(), seeds=range(9))
    campaign.progress.not_judged.update({"rate limit api": 2, "rate limit web": 1})
    TextReport("shop.py", trial).summary(campaign, interrupted=False)
    line = "not judged while clocks were more than a minute apart: rate limit api in 2 universes"
    assert f"{line}, rate limit web in 1 universe" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("counters.py:idle",), "the app 'idle' of counters.py:idle has no workload"),
        (("counters.py:idle",), "@app.workload"),
        (("counters.py:right", "--faults", "fire"), "no class of faults 'fire'; there are partition,"),
        (("counters.py:right", "--weak", "knees"), "no weakness 'knees'; there are stale-reads,"),
        (("counters.py:right", "--time", "soon"), "'soon' is no time from 1s to 24h"),
        (("counters.py:right", "--replay", "x"), "'x' names no universe"),
        (("counters.py:right", "--replay", "1:none.json"), "the edits in none.json cannot be read"),
        (("counters.py:right", "--replay", "1:counters.py"), "Small programs, each with what it d"),
        (
            ("counters.py:right", "--replay", "1:counters.py"),
            "...' holds no edits of a tape: Extra data",
        ),
        (("missing.py",), "there is no file missing.py"),
    ],
)
def test_what_is_wrong_is_told(folder: Path, words: tuple[str, ...], message: str) -> None:
    done = run("sim", *words, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def started(folder: Path) -> subprocess.Popen[str]:
    """Start very many universes, and wait until some are under way."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    words = (sys.executable, "-m", "coterie", "sim", "counters.py:right", "--universes", "100000")
    process = subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not _universes(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_ctrl_c_shows_what_was_found_and_leaves_nothing_behind(folder: Path) -> None:
    with started(folder) as process:
        below = psutil.Process(process.pid).children(recursive=True)
        assert below
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert re.match(r"\d+ of 100,000 universes", out)
    _gone, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_it_ends_its_universes_without_a_word(folder: Path, number: signal.Signals) -> None:
    with started(folder) as process:
        below = psutil.Process(process.pid).children(recursive=True)
        assert below
        process.send_signal(number)
        # Its universes hold the other end of the pipe, so this waits for them too.
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (-number, "")
    _gone, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []


def _universes(pid: int) -> bool:
    """Whether the nursery of a process has universes under way."""
    try:
        return any(child.children() for child in psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return False
