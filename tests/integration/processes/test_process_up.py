"""`coterie up`: what it tells, what it starts again, what it gives up, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from process_harness import COTERIE, PATIENCE_S, SAMPLE, Coterie, alive, clean_environment, eventually

Start = Callable[..., Coterie]
UP = ("up", str(SAMPLE), "--http", "127.0.0.1:0", "--json")


def ready(up: Coterie, count: int) -> dict[str, dict[str, Any]]:
    """Wait until so many nodes are ready, and return the event of each by its name."""
    return {event["node"]: event for event in (up.wait_event("ready") for _ in range(count))}


def call(event: dict[str, Any], method: str, **arguments: Any) -> httpx.Response:
    return httpx.post(f"{event['http']}/Work/{method}", json=arguments, timeout=PATIENCE_S)


def test_a_node_that_dies_is_started_again(start: Start) -> None:
    up = start(*UP, "--nodes", "2")
    nodes = ready(up, 2)
    assert sorted(nodes) == ["sample-1", "sample-2"]
    victim = nodes["sample-1"]
    os.kill(victim["pid"], signal.SIGKILL)
    died = up.wait_event("died", node="sample-1")
    assert (died["pid"], died["code"], died["reason"]) == (victim["pid"], -9, "it was killed by SIGKILL")
    again = up.wait_event("ready", node="sample-1")
    assert again["pid"] != victim["pid"]
    assert call(again, "count", key="k").json() == 1
    up.signal(signal.SIGTERM)
    assert up.wait() == 0
    kinds = [(event["event"], event["node"]) for event in up.events]
    for name in nodes:
        # On a busy machine the program may also print a warning.
        of_node = [kind for kind, node in kinds if node == name and kind != "output"]
        lives = ["starting", "ready", "died"] if name == "sample-1" else []
        assert of_node == [*lives, "starting", "ready", "draining", "stopped"]
    assert not any(alive(event["pid"]) for event in (again, nodes["sample-2"]))


@pytest.mark.slow
def test_a_node_that_keeps_dying_is_given_up(start: Start) -> None:
    up = start(*UP, "--nodes", "1")
    for death in range(5):
        node = ready(up, 1)["sample-1"]
        with suppress(httpx.HTTPError):
            call(node, "die")
        assert up.wait_event("died")["reason"] == "it ended with exit code 9", death
    up.wait_event("given_up")
    assert up.wait() == 1
    error = up.events[-1]["error"]
    assert error["message"] == "1 of 1 nodes did not stay up: sample-1"
    assert sum(event.get("event") == "starting" for event in up.events) == 5


def test_without_restart_one_death_is_enough(start: Start) -> None:
    up = start(*UP, "--nodes", "2", "--no-restart")
    nodes = ready(up, 2)
    os.kill(nodes["sample-1"]["pid"], signal.SIGKILL)
    up.wait_event("given_up", node="sample-1")
    assert call(nodes["sample-2"], "count", key="k").json() == 1  # The other one goes on.
    up.signal(signal.SIGINT)
    assert up.wait() == 1


def test_what_is_wrong_from_the_start_is_not_tried_again(start: Start) -> None:
    with two_ports() as (free, taken):
        up = start("up", str(SAMPLE), "--nodes", "2", "--http", f"127.0.0.1:{free}", "--json")
        error = up.wait_event("error")
        assert f"127.0.0.1:{taken} is in use" in error["message"]
        assert up.wait_event("given_up", node="sample-2")["reason"] == error["message"]
        up.signal(signal.SIGTERM)
        assert up.wait() == 1
    assert sum(event.get("event") == "starting" for event in up.events) == 2


@contextmanager
def two_ports() -> Iterator[tuple[int, int]]:
    """Give two neighbouring ports, the first free and the second taken."""
    while True:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            with suppress(OSError):
                socket.create_server(("127.0.0.1", port - 1)).close()
                yield port - 1, port
                return


def test_a_second_signal_goes_on_to_the_nodes(start: Start, tmp_path: Path) -> None:
    up = start(*UP, "--nodes", "2", "--drain-s", "600")
    nodes = ready(up, 2)
    held = [
        subprocess.Popen(
            (*COTERIE, "call", str(SAMPLE), "Work.hold", f'{{"mark": "{n}"}}', "--timeout", "300"),
            cwd=tmp_path, env=clean_environment(tmp_path), stderr=subprocess.PIPE, text=True,
        )
        for n in range(4)
    ]  # fmt: skip
    trace = tmp_path / "trace"
    eventually(lambda: trace.exists() and len(trace.read_text().split()) == 4, "the calls came in")
    up.signal(signal.SIGTERM)
    up.wait_event("draining")
    up.wait_event("draining")
    assert all(call_.poll() is None for call_ in held)
    up.signal(signal.SIGTERM)
    assert up.wait() == 0
    assert not any(alive(node["pid"]) for node in nodes.values())
    for call_ in held:
        _, told = call_.communicate(timeout=PATIENCE_S)
        assert call_.returncode == 1
        assert "It may or may not have had an effect." in told


def test_the_nodes_end_when_up_is_killed(start: Start) -> None:
    up = start(*UP, "--nodes", "2")
    pids = [node["pid"] for node in ready(up, 2).values()]
    up.kill()
    eventually(lambda: not any(map(alive, pids)), "the nodes ended")


def test_the_nodes_end_when_nobody_reads_what_up_prints(tmp_path: Path) -> None:
    with subprocess.Popen(
        (*COTERIE, *UP, "--nodes", "2"),
        cwd=tmp_path, env=clean_environment(tmp_path), stdout=subprocess.PIPE, text=True,
    ) as up:  # fmt: skip
        assert up.stdout is not None
        pids: list[int] = []
        while len(pids) < 2:
            event = json.loads(up.stdout.readline())
            pids += [event["pid"]] if event["event"] == "ready" else []
        up.stdout.close()
        os.kill(pids[0], signal.SIGKILL)  # Now it has something to tell.
        up.wait(PATIENCE_S)
        assert not any(map(alive, pids))


def test_what_the_program_prints_is_passed_on(start: Start) -> None:
    up = start(*UP, "--nodes", "1")
    node = ready(up, 1)["sample-1"]
    for text in ("hello", '{"event": "ready", "level": "info"}', "x" * 100_000, "[bold]"):
        call(node, "say", text=text)
    seen = ""
    while "[bold]" not in seen:
        event = up.wait_event("output")
        assert (event["node"], event["pid"]) == ("sample-1", node["pid"])
        seen += event["text"]
    assert seen == 'hello{"event": "ready", "level": "info"}' + "x" * 100_000 + "[bold]"


def test_a_terminal_shows_a_live_table(tmp_path: Path) -> None:
    with Terminal(tmp_path, "up", str(SAMPLE), "--nodes", "2", "--http", "127.0.0.1:0") as up:
        up.wait_for(lambda words: words.count("ready") == 2)
        assert "2 nodes of sample on sqlite:///.coterie/sample.db" in up.shown
        assert "Ctrl-C drains them all; twice hurries" in up.shown
        pids = [int(word) for word in up.table() if word.isdigit() and int(word) > 9]
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        up.wait_for(lambda words: words.count("ready") == 2 and "2" in words)  # Its second start.
        assert str(pids[0]) not in up.table()
        up.type(b"\x03")  # Ctrl-C, as the terminal sends it to the group in the foreground.
        assert up.wait() == 0
        assert up.table().count("stopped") == 2
    assert not any(map(alive, pids))


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.shown = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            environment = clean_environment(folder, {"TERM": "xterm-256color", "COLUMNS": "120"})
            environment.pop("NO_COLOR", None)
            os.execve(COTERIE[0], (*COTERIE, *words), environment)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def wait_for(self, condition: Callable[[list[str]], bool]) -> None:
        """Read until the condition holds of the words of the table."""
        while not condition(self.table()):
            assert self._read(), f"it ended: {self.shown[-2000:]}"

    def _read(self) -> bool:
        assert select.select([self._fd], [], [], PATIENCE_S)[0], f"nothing more than {self.shown[-2000:]}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux says EIO at the end.
            data = b""
        self.shown += data.decode(errors="replace")
        return bool(data)

    def type(self, data: bytes) -> None:
        os.write(self._fd, data)

    def table(self) -> list[str]:
        """Return the words of the table as it was shown last."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", self.shown)
        return plain.rpartition(" node ")[2].split()

    def wait(self) -> int:
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
