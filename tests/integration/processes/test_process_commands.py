"""Commands against nodes that run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from process_harness import COTERIE, PATIENCE_S, SAMPLE, Coterie, clean_environment, command

TARGET = str(SAMPLE)


def call(shared: Any, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return command("call", TARGET, *words, folder=shared.folder, **options)


def test_a_call_prints_its_result(shared: Any) -> None:
    done = call(shared, "Work.count", '{"key": "printed"}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert command("map", "get", TARGET, "counts", "printed", folder=shared.folder).stdout == "1\n"


def test_a_call_reads_its_arguments_from_a_pipe(shared: Any) -> None:
    assert call(shared, "Work.count", "-", stdin='{"key": "piped"}').stdout == "1\n"


def test_a_stream_comes_line_by_line(shared: Any) -> None:
    assert call(shared, "Work.numbers", '{"to": 3}').stdout == "0\n1\n2\n"


@pytest.mark.parametrize(
    ("method", "code", "outcome", "text"),
    [
        ("Work.refuse", "Refused", "not_applied", "error: Refused: not today\n"),
        ("Work.fail", "remote_error", "unknown", "error: ZeroDivisionError: a mistake\n"),
    ],
)
def test_an_error_of_the_program_is_told(
    shared: Any, method: str, code: str, outcome: str, text: str
) -> None:
    done = call(shared, method)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(text)
    done = call(shared, method, "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, done.stderr, error["code"], error["outcome"]) == (1, "", code, outcome)
    if method == "Work.fail":
        assert "process_sample.py" in error["traceback"]


@pytest.mark.slow
def test_a_deadline_is_kept_and_may_be_longer_than_the_default(shared: Any) -> None:
    done = call(shared, "Work.do", '{"mark": "late", "seconds": 60}', "--timeout", "0.5", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["outcome"]) == (1, "deadline_exceeded", "unknown")
    done = call(shared, "Work.do", '{"mark": "patient", "seconds": 5.2}', "--timeout", "20")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_status_shows_each_node(shared: Any) -> None:
    done = command("status", TARGET, "--json", folder=shared.folder)
    nodes = json.loads(done.stdout)["nodes"]
    assert [node["member"]["name"] for node in nodes] == ["sample-1", "sample-2"]
    assert [node["member"]["http"] for node in nodes] == shared.urls
    assert all(node["facts"]["ready"] and node["facts"]["members"] == 2 for node in nodes)
    lines = command("status", TARGET, folder=shared.folder).stdout.splitlines()
    assert lines[0].split()[:3] == ["node", "state", "answers"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["sample-1", "serving", "yes"],
        ["sample-2", "serving", "yes"],
    ]


def test_asking_for_the_status_is_no_call(shared: Any) -> None:
    def calls() -> list[tuple[int, int]]:
        nodes = json.loads(command("status", TARGET, "--json", folder=shared.folder).stdout)["nodes"]
        return [(node["facts"]["calls"], node["facts"]["pending"]) for node in nodes]

    before = calls()
    assert calls() == before
    assert [pending for _, pending in before] == [0, 0]


def test_a_call_ends_with_ctrl_c(shared: Any) -> None:
    process = subprocess.Popen(
        (*COTERIE, "call", TARGET, "Work.hold", '{"mark": "ctrl-c"}', "--timeout", "60"),
        cwd=shared.folder, env=clean_environment(shared.folder),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    trace = shared.folder / "trace"
    while not (trace.exists() and "ctrl-c" in trace.read_text()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_a_reader_that_leaves_is_no_error(shared: Any) -> None:
    process = subprocess.Popen(
        (*COTERIE, "call", TARGET, "Work.numbers", '{"to": 1000000}'),
        cwd=shared.folder, env=clean_environment(shared.folder),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""


def test_a_name_runs_once(shared: Any) -> None:
    done = command(
        "run", TARGET, "--name", "sample-1", "--http", "off", "--json", folder=shared.folder
    )  # fmt: skip
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (1, "already_exists")
    assert "give this one another name: --name" in error["hint"]


@pytest.mark.parametrize("option", ["--http", "--listen"])
def test_a_port_in_use_is_told(shared: Any, tmp_path: Path, option: str) -> None:
    port = httpx.URL(shared.urls[0]).port
    other = () if option == "--http" else ("--http", "off")
    done = command("run", TARGET, option, f"127.0.0.1:{port}", *other, "--json", folder=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "invalid_configuration")
    assert f"127.0.0.1:{port}" in error["message"]
    assert "is in use" in error["message"]
    assert "any free" in error["hint"]


def test_the_command_line_beats_the_environment_beats_the_file(
    start: Callable[..., Coterie], tmp_path: Path
) -> None:
    (tmp_path / "coterie.toml").write_text('name = "from-file"\nhttp = "off"\ndata = "from-file"\n')
    environment = {"COTERIE_NAME": "from-environment", "COTERIE_DATA": "from-environment"}
    shown = command("config", TARGET, "--name", "line", "--json", folder=tmp_path, environment=environment)
    settings = json.loads(shown.stdout)
    assert {name: settings[name]["value"] for name in ("name", "data", "http")} == {
        "name": "line", "data": "from-environment", "http": "off",
    }  # fmt: skip
    # And what `config` shows is what a node does.
    node = start("run", TARGET, "--name", "line", "--json", environment=environment)
    ready = node.wait_event("ready")
    assert (ready["node"], ready["http"]) == ("line", "")
    assert (tmp_path / "from-environment/sample.db").exists()
    assert not (tmp_path / "from-file").exists()


def test_python_finds_the_command_as_well(tmp_path: Path) -> None:
    done = subprocess.run(
        (Path(sys.executable).with_name("coterie"), "--version"), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("coterie ")
