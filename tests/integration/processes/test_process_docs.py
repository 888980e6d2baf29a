"""Every `$ coterie` line of docs/cli.md does what the page says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_harness import COTERIE, PATIENCE_S, clean_environment

from coterie.cli.main import EXIT_CODES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/cli.md").read_text()
# What differs from run to run. Everything else must be as printed.
VARYING = (
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"pid \d+", "pid N"),
    (r" \d+ s \d+ 0 none http", " N s N 0 none http"),  # How long a node is up, and how many calls it had.
    (r"(127\.0\.0\.1:PORT) \d+$", r"\1 PID"),
    (r'"version": \d+', '"version": N'),
    (r"^(\w+ \d+) \d+$", r"\1 VERSION"),
)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Give each command of the page with what it prints."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *printed = part.rstrip("\n").split("\n")
            yield line, printed


def plain(line: str) -> str:
    """Return a line without what varies."""
    line = " ".join(line.split())
    for pattern, by in VARYING:
        line = re.sub(pattern, by, line)
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def shell(line: str, folder: Path) -> subprocess.Popen[str]:
    """Start a line as a shell would, with the `coterie` of this environment."""
    prefix = f"PATH={Path(COTERIE[0]).parent}:$PATH"
    port = "" if " config " in line else "COTERIE_HTTP=127.0.0.1:0"
    script = line if "|" in line else f"exec {line}"
    return subprocess.Popen(
        ("bash", "-c", f"export {prefix} {port}; {script}"),
        cwd=folder, env=clean_environment(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def check(process: subprocess.Popen[str], printed: list[str]) -> None:
    """Compare what a command prints, pressing Ctrl-C where the page does."""
    assert process.stdout is not None
    for expected in printed:
        if expected == "^C":
            process.send_signal(signal.SIGINT)
            continue
        assert plain(process.stdout.readline()) == plain(expected)
    assert process.stdout.read().strip() == ""
    process.wait(PATIENCE_S)


@pytest.mark.slow
def test_the_page(folder: Path) -> None:
    background: list[subprocess.Popen[str]] = []
    count = 0
    try:
        for line, printed in commands():
            process = shell(line, folder)
            count += 1
            if " up " in line:
                # Without a terminal it prints lines, not the table; enough that it says it is ready.
                background.append(process)
                assert process.stdout is not None
                lines = [process.stdout.readline() for _ in range(1 + 2 * 3)]
                assert lines[0].strip() == printed[0]
                assert sum(" ready " in text for text in lines) == 3
            else:
                with process:
                    try:
                        check(process, printed)
                    except BaseException:
                        process.kill()  # Else it is waited for, and it may not end.
                        raise
    finally:
        for process in background:
            os.kill(process.pid, signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
    assert count == PAGE.count("\n$ ") > 15


def test_a_wrong_page_would_be_noticed() -> None:
    for same, other in (
        ("http://127.0.0.1:8000  (pid 12)", "http://127.0.0.1:45123  (pid 3)"),
        ("coffee  5      12", "coffee  5  90"),
        (
            "shop-1  serving  yes  4 s  7  0  none  http://127.0.0.1:1",
            "shop-1 serving yes 1 s 0 0 none http://127.0.0.1:2",
        ),
    ):
        assert plain(same) == plain(other)
    for same, other in (
        ("http://127.0.0.1:8000", "http://127.0.0.2:8000"),
        ("10", "8"),
        ("coffee  5      12", "coffee 6 12"),
        (
            "shop-1  serving  yes  4 s  7  0  none  http://127.0.0.1:1",
            "shop-1 serving yes 4 s 7 1 none http://127.0.0.1:1",
        ),
    ):
        assert plain(same) != plain(other)


def test_the_page_has_every_exit_code() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows == {str(code): text for code, text in EXIT_CODES.items()}
