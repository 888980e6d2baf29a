"""The main job balances the books of the shop, and says so when those of a broken shop do not."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
BROKEN = Path(__file__).with_name("broken_shops")


def main_job(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COTERIE_")}
    environment["PYTHONPATH"] = str(ROOT / "examples")
    return subprocess.run(
        (sys.executable, str(ROOT / "examples/main_job.py"), "--orders", "200", "--buyers", "8", *arguments),
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip


def test_the_books_balance(tmp_path: Path) -> None:
    done = main_job(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "killed shop-1" in done.stdout
    assert "restarted shop-1" in done.stdout
    assert re.search(r"lost or sold twice +none", done.stdout)
    assert "The books balance." in done.stdout
    # It did what it says: orders were sold, the stock ran out for some, and every order has an answer.
    accepted, answered = map(int, re.findall(r"orders accepted +(\d+) of (\d+)", done.stdout)[0])
    sold_out = int(re.findall(r"sold out +(\d+)", done.stdout)[0])
    assert 0 < sold_out < accepted
    assert accepted + sold_out == answered == 200
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
