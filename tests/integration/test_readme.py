"""The README's first page, followed as a reader would."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
PROGRAM = next(
    block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "# hello.py" in block
)
COTERIE = str(Path(sys.executable).with_name("coterie"))
STEPS = re.findall(r"^\$ (.+)\n((?:(?!\$ |```).*\n)*)", README, re.MULTILINE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def run(command: str, folder: Path) -> str:
    words = shlex.split(command)
    if words[0] == "coterie":
        words[0] = COTERIE
    ran = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hello.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    """Run the first step, `coterie up`, at another port than the README's, and wait for its three nodes."""
    port = free_port()
    command, _ = STEPS[0]
    assert command.startswith("coterie up hello.py")
    words = [COTERIE, *shlex.split(command)[1:], "--http", f"127.0.0.1:{port}", "--json"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        ready = 0
        while ready < 3:
            line = up.stdout.readline()
            assert line, "coterie up ended"
            ready += json.loads(line)["event"] == "ready"
        yield port
        up.send_signal(signal.SIGTERM)
        up.stdout.read()
        assert up.wait(20) == 0


def test_the_first_page(folder: Path, port: int) -> None:
    assert len(STEPS) == 5
    for command, expected in STEPS[1:]:
        printed = run(command.replace(":8000", f":{port}"), folder)
        if "status" in command:
            assert printed.split()[:3] == expected.split()[:3] == ["node", "state", "answers"]
            deadline = time.monotonic() + 10  # A node is in the table as soon as it has joined.
            while printed.count("serving") != 3 and time.monotonic() < deadline:
                printed = run(command, folder)
            assert printed.count("serving") == expected.count("serving") == 3
        else:
            assert printed.strip() == expected.strip()
