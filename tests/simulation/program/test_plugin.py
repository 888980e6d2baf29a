"""Tests in universes under pytest: options, kept seeds, what a failure tells, and Hypothesis."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coterie.errors import InvalidArgument
from coterie.simulation import World, universe

HERE = Path(__file__).parent
TESTS = """
import asyncio
from hypothesis import given, settings, strategies as st
from coterie.simulation import World, universe

async def listen():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(answer, "0.0.0.0", 80)
    await server.serve_forever()

async def ask(name, line):
    reader, writer = await asyncio.open_connection(name, 80)
    writer.write(line)
    return await reader.read()

@universe(nodes=2, universes=3)
async def test_passes(world: World) -> None:
    assert list(world.hosts) == ["node-1", "node-2"]
    await world.start("node-1", listen)
    assert await ask("node-1", b"hello\\\\n") == b"hello\\\\n"

@universe(nodes=3, universes=60, shrink=12)
async def test_fails(world: World) -> None:
    for name in list(world.hosts):
        await world.start(name, listen)
    async with world.storm(20.0, classes=["kill", "latency", "clock"], use_swarm=False):
        for _ in range(20):
            await asyncio.sleep(1.0)
            answer = await ask("node-2", b"hello\\\\n")
            assert answer == b"hello\\\\n", "an answer is missing"

@settings(max_examples=5, deadline=None, database=None, derandomize=True)
@given(line=st.binary(min_size=1, max_size=5).filter(lambda line: b"\\\\n" not in line))
@universe(nodes=1, universes=2)
async def test_drawn(world: World, line: bytes) -> None:
    await world.start("node-1", listen)
    assert await ask("node-1", line + b"\\\\n") == line + b"\\\\n"

@universe(universes=2)
async def test_takes_fixtures(world: World, tmp_path) -> None:
    assert tmp_path.is_dir()

class TestsInAClass:
    @universe(nodes=1, universes=2)
    async def test_takes_itself_too(self, world: World, tmp_path) -> None:
        assert isinstance(self, TestsInAClass)
        assert list(world.hosts) == ["node-1"]
        assert tmp_path.is_dir()
""".replace("\\\\", "\\")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:asyncio\n")
    (tmp_path / "test_echo.py").write_text(TESTS)
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "pytest", "-q", *arguments),
        cwd=project, capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip


def test_what_holds_passes_with_hypothesis_and_fixtures_too(project: Path) -> None:
    done = run(project, "--deselect", "test_echo.py::test_fails")
    assert done.returncode == 0, done.stdout
    assert "4 passed, 1 deselected" in done.stdout


def test_a_failure_tells_all_and_its_seed_is_tried_first_the_next_time(project: Path) -> None:
    done = run(project, "test_echo.py::test_fails", "--universe-jobs", "2")
    assert done.returncode == 1
    found = re.search(r"universe (\d+): ", done.stdout)
    assert found is not None, done.stdout
    seed = int(found[1])
    assert re.search(r"faults \([1-3]\):\n.*at [\d.]+ s, for [\d.]+ s: node-2 is killed", done.stdout)
    assert f"--universe-seed {seed} --universes 1" in done.stdout
    drawn = re.search(r"diagram: (\S+)", done.stdout)
    assert drawn is not None
    assert "node-2 is killed" in (project / drawn[1]).read_text()
    assert 'test_echo.py", line' in done.stdout
    assert "world.py" not in done.stdout
    kept = json.loads((project / ".pytest_cache/v/coterie/failed-universes").read_text())
    assert kept == {"test_echo.py::test_fails": [seed]}
    # One universe of another seed would pass, but the kept seed is tried before it.
    again = run(project, "test_echo.py::test_fails", "--universes", "1")
    assert f"universe {seed}: " in again.stdout
    replayed = run(project, "test_echo.py::test_fails", "--universe-seed", str(seed), "--universes", "1")
    assert f"universe {seed}: " in replayed.stdout


def test_wrong_options_are_refused(project: Path) -> None:
    for option, value, least in (("--universes", "0", 1), ("--universe-seed", "x", 0)):
        done = run(project, option, value)
        assert done.returncode == 4
        assert f"argument {option}: '{value}' is no whole number from {least} on" in done.stderr


def test_only_coroutine_functions_are_taken() -> None:
    with pytest.raises(InvalidArgument, match="must be an `async def`"):
        universe()(lambda world: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidArgument, match="must take the world"):

        @universe()
        async def test_without_a_world() -> None: ...

    with pytest.raises(InvalidArgument, match="universes=0"):
        universe(universes=0)


@universe(app="counters:pairs", universes=4)
async def with_an_app(world: World) -> None:
    from counters import both

    async with world.storm(10.0):
        for _ in range(5):
            assert await both() == 0


def test_the_handles_of_an_app_work_in_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE / "programs")
    with_an_app()
