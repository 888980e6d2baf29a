"""The main job balances the books of the shop, and says so when those of a broken shop do not."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
BROKEN = Path(__file__).with_name("broken_shops")


def how(*arguments: str, cwd: Path) -> dict[str, Any]:
    """Return how the main job is started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COTERIE_")}
    environment["PYTHONPATH"] = str(ROOT / "examples")
    script = str(ROOT / "examples/main_job.py")
    return {
        "args": (sys.executable, script, "--orders", "200", "--buyers", "8", *arguments),
        "cwd": cwd,
        "env": environment,
        "text": True,
    }


def main_job(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**how(*arguments, cwd=cwd), capture_output=True, timeout=150, check=False)


def ask(line: str, *, instead_of: str = "", at: str = "") -> str:
    """Do what a `curl` line does, and return the first line of the answer."""
    words = shlex.split(line.replace(instead_of, at))
    url = next(word for word in words if word.startswith("http"))
    body = words[words.index("--json") + 1] if "--json" in words else ""
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.readline().decode())


def test_the_books_balance(tmp_path: Path) -> None:
    done = main_job(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "killed shop-1" in done.stdout
    assert "restarted shop-1" in done.stdout
    assert re.search(r"lost or sold twice +none", done.stdout)
    assert re.search(r"longest interruption +[0-9.]+ s", done.stdout)
    assert "The books balance." in done.stdout
    # It did what it says: orders were sold, the stock ran out for some, and every order has an answer.
    accepted, answered = map(int, re.findall(r"orders accepted +(\d+) of (\d+)", done.stdout)[0])
    sold_out = int(re.findall(r"sold out +(\d+)", done.stdout)[0])
    assert 0 < sold_out < accepted
    assert accepted + sold_out == answered == 200
    assert list(tmp_path.iterdir()) == []


def test_the_shop_stays_open_for_a_person_to_play_with(tmp_path: Path) -> None:
    job = subprocess.Popen(**how("--serve", cwd=tmp_path), stdout=subprocess.PIPE)
    try:
        assert job.stdout is not None
        printed: list[str] = []
        while not printed or printed[-1] != "Ctrl-C ends it.":
            line = job.stdout.readline()
            assert line, printed
            printed.append(line.strip())
        books, restock, follow, kill, _ = printed[-5:]
        left = json.loads(ask(books))["left"]
        assert json.loads(ask(restock)) >= 5
        assert json.loads(ask(books))["left"] == left + 5
        assert ask(follow)
        os.kill(int(kill.split()[2]), signal.SIGKILL)
        gone, there = (re.findall(r"http://[^/]+", line)[0] for line in (restock, follow))
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            ask(restock)
        ask(restock, instead_of=gone, at=there)
        assert json.loads(ask(books))["left"] == left + 10
        job.send_signal(signal.SIGINT)
        assert job.wait(60) == 0
    finally:
        job.kill()
        job.communicate()
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_there_is_not_is_told(tmp_path: Path) -> None:
    done = main_job("--engine", "mongo", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no such engine: 'mongo' (there are nats, etcd, postgres")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("engine", ["etcd", "nats", "etcd+nats", "postgres", "redis"])
def test_the_books_balance_on_an_engine_that_is_hurt_as_well(tmp_path: Path, engine: str) -> None:
    done = main_job("--engine", engine, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("killed", "restarted"):
        assert f"{what} shop-1" in done.stdout
        for name in engine.split("+"):
            assert f"{what} {name}-" in done.stdout
    assert re.search(r"lost or sold twice +none", done.stdout)
    assert "The books balance." in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shop", "complaint"),
    [
        ("lost_update", r"\d+ delivered is not \d+ left and \d+ sold"),
        ("forgotten_sale", r"lost: buyers hold receipts for \d+ articles, the books have \d+"),
        ("sold_again", r"sold twice: the books have \d+ articles sold, buyers ordered \d+"),
    ],
)
def test_a_broken_shop_is_caught(tmp_path: Path, shop: str, complaint: str) -> None:
    done = main_job("--shop", str(BROKEN / f"{shop}.py"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(complaint, done.stdout), done.stdout
    assert "The books do not balance." in done.stdout


def test_make_run_installs_what_the_job_imports() -> None:
    """Here the developers' tools are installed as well; where `make run` comes first they are not."""
    rule = re.search(r"^\$\(RUN\):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rule is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {
        *re.findall(r"\w+", rule[1]),
        *(re.split(r"\W", name)[0] for name in project["dependencies"]),
    }
    tree = ast.parse((ROOT / "examples/main_job.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"coterie"}
    assert foreign
    assert foreign <= installed
