"""The command: what it prints, writes and exits with, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

COMMAND = [sys.executable, "-m", "coterie", "verify"]


def coterie(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )


def test_people_are_told_what_was_found_and_where_it_is(tmp_path: Path) -> None:
    ran = coterie(
        tmp_path, "memory:", "--time", "1s", "--workload", "set,bank", "--seed", "4", "--report", "r.html"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == "memory: 1 s of work; Ctrl-C judges what there is\n"
    for expected in (
        "memory, as it runs, through the port, seed 4",
        "left out: kill, pause, partition, restart: cannot be done to memory",
        "no element lost",
        "coterie check-history .coterie/verify/memory-4/set.jsonl --model set",
        "coterie verify memory: --workload set,bank --time 1s --seed 4",
        "Every promise was kept.",
    ):
        assert expected in ran.stdout
    assert "Every promise was kept" in (tmp_path / "r.html").read_text()
    line = next(line for line in ran.stdout.splitlines() if "bank.jsonl" in line)
    again = subprocess.run(
        f"{sys.executable} -m {line.strip()}",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stdout + again.stderr


def test_machines_are_told_in_one_object(tmp_path: Path) -> None:
    ran = coterie(tmp_path, "memory:", "--time", "1s", "--workload", "log", "--json", "--history", "h.jsonl")
    told = json.loads(ran.stdout)
    assert (ran.returncode, told["verdict"], told["exit_code"]) == (0, "ok", 0)
    assert told["workloads"][0]["history"] == "h.jsonl"
    assert (tmp_path / "h.jsonl").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["oracle"], "no engine 'oracle'"),
        (["sqlite", "--workload", "sett"], "no workload 'sett'"),
        (["sqlite", "--faults", "flood"], "no class of faults 'flood'"),
        (["sqlite", "--raw"], "no client"),
        (["sqlite", "--time", "soon"], "'soon' is no time"),
        (["sqlite", "--set", "nonsense"], "NAME=VALUE"),
        (["sqlite", "--report", "no/such/folder.html"], "no folder"),
        (["nosuch://host"], "no engine is called 'nosuch'"),
    ],
)
def test_wrong_use_exits_with_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    ran = coterie(tmp_path, *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert list(tmp_path.iterdir()) == []


def offspring(process: psutil.Process) -> list[psutil.Process]:
    return process.children(recursive=True)


def test_ctrl_c_ends_all_of_it_and_judges_what_there_is(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [*COMMAND, "sqlite", "--time", "50s", "--workload", "set", "--seed", "4", "--faults", "pause"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    parent = psutil.Process(running.pid)
    try:
        assert running.stderr is not None
        assert "50 s of work" in running.stderr.readline()
        children = offspring(parent)
        assert len(children) == 3
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=40)
    finally:
        running.kill()
    assert running.returncode == 130, err
    assert "interrupted" in out
    assert "Interrupted: no promise was seen broken until then." in out
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_nothing_outlives_a_command_that_is_killed(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [*COMMAND, "sqlite", "--time", "50s", "--faults", "none"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    parent = psutil.Process(running.pid)
    try:
        while len(children := offspring(parent)) < 3:
            assert running.poll() is None
            time.sleep(0.05)
    finally:
        running.kill()
        running.wait()
    assert psutil.wait_procs(children, timeout=10)[1] == []
