"""The sources keep the shape that the design asks for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import coterie

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "coterie"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 65
ENGINES = sorted(path.name for path in (PACKAGE / "engines").iterdir() if (path / "__init__.py").exists())
# What the node is composed of, and what serves engines, may name them.
MAY_NAME_ENGINES = ("engines/", "node/", "cli/", "testing/", "conformance/", "simulation/", "verify/", "lab/")
HEAVY = ["starlette", "uvicorn", "rich", "click", "sqlite3", "prometheus_client", "pydantic", "uvloop"]


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    long = {
        function.name: length
        for function in functions(ast.parse(text))
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_says_what_it_is_and_what_it_offers(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if path.name == "__main__.py":
        return
    assert ast.get_docstring(tree), "no docstring"
    names = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    empty = path.name == "__init__.py" and len(tree.body) == 1
    # A module of checks offers all that it marks so.
    checks = any("check" in map(ast.unparse, function.decorator_list) for function in functions(tree))
    assert empty or checks or "__all__" in names, "no __all__"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_engine_is_named_above_the_node(path: Path) -> None:
    if relative(path).startswith(MAY_NAME_ENGINES):
        return
    named = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in {*ENGINES, "redis", "nats", "etcd", "postgres"}
    ]
    assert not named


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_time_and_chance_come_from_the_ports(path: Path) -> None:
    if relative(path).startswith(("engines/", "cli/", "simulation/", "lab/", "verify/", "conformance/")):
        return
    text = path.read_text()
    assert not re.search(
        r"^\s*(import|from) (time|random|secrets)\b|uuid\.uuid\d|urandom", text, re.MULTILINE
    )


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("_*machine.py")), ids=relative)
def test_a_decision_does_no_io(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"^\s*(import|from) (asyncio|time|random|socket|os)\b", text, re.MULTILINE)


def test_every_exported_name_exists_once() -> None:
    for module_info in walk_packages(coterie.__path__, "coterie."):
        if module_info.name.endswith("__main__"):
            continue
        module = import_module(module_info.name)
        exported = list(getattr(module, "__all__", ()))
        assert sorted(set(exported)) == sorted(exported), module_info.name
        missing = [name for name in exported if not hasattr(module, name)]
        assert not missing, f"{module_info.name} exports {missing}"


def test_an_import_of_the_package_stays_light() -> None:
    program = f"import sys, coterie; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.split() == []


def test_no_commit_names_a_machine() -> None:
    # Written in parts, so that this file does not name them either.
    words = ["registry." + "npmjs", "pypi." + "org/simple", "/ro" + "ot/", "/wo" + "rk/main"]
    pattern = re.compile("|".join(map(re.escape, words)))
    found = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if pattern.search(text):
            found.append(path.relative_to(ROOT).as_posix())
    assert not found
