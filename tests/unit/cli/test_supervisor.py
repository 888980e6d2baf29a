"""When a node that died is started again, and what its parent makes of its output."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from coterie.cli.supervisor import Child, Restarts, Supervisor, _event, _lines, _reason


def test_the_wait_doubles_up_to_a_bound() -> None:
    restarts = Restarts(limit=100, first_s=0.2, longest_s=5.0)
    waits = [restarts.died(float(now), code=-9, was_ready=True) for now in range(8)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_a_node_that_dies_often_is_given_up() -> None:
    restarts = Restarts(limit=5, within_s=60)
    assert [restarts.died(float(now), code=1, was_ready=True) is None for now in range(5)] == [
        False, False, False, False, True,
    ]  # fmt: skip


def test_deaths_of_long_ago_are_forgotten() -> None:
    restarts = Restarts(limit=3, within_s=60, first_s=0.2)
    for now in range(0, 6000, 61):
        assert restarts.died(float(now), code=-9, was_ready=True) == 0.2


def test_a_wrong_configuration_is_given_up_at_once() -> None:
    assert Restarts().died(0.0, code=2, was_ready=False) is None
    # Once it was ready, its configuration was right; then what is wrong may mend itself.
    assert Restarts().died(0.0, code=2, was_ready=True) == 0.2


DEAF = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
)


@pytest.mark.parametrize("signals", [1, 2, 3])
async def test_a_node_that_cannot_end_is_killed(signals: int) -> None:
    """After its time to drain, which a second signal takes away; by a third signal at once."""
    never_s = 3600.0
    shown: list[tuple[str, dict[str, Any]]] = []
    deaf = asyncio.Event()
    supervisor = Supervisor(
        [Child(name="shop-1", arguments=(sys.executable, "-c", DEAF), environment={})],
        restart=True,
        show=lambda _, event, **facts: shown.append((event, facts)),
        note=lambda _, __: deaf.set(),
        drain_s=never_s if signals > 1 else 0.0,
        grace_s=never_s if signals > 2 else 0.0,
    )
    running = asyncio.create_task(supervisor.run())
    await deaf.wait()
    for _ in range(signals):
        supervisor.stop()
    assert await running == []
    assert shown[-1] == ("stopped", {"code": -9, "reason": "it was killed by SIGKILL"})


def a_child() -> Child:
    child = Child(name="shop-1", arguments=(), environment={})
    child.pid = 7
    return child


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ({"event": "ready", "node": "shop-1", "pid": 7}, True),
        ({"error": {"code": "conflict", "message": "m", "hint": None, "outcome": "not_applied"}}, True),
        ({"event": "user logged in", "level": "info"}, False),
        ({"event": "ready", "node": "shop-2", "pid": 7}, False),
        ({"event": 3, "node": "shop-1", "pid": 7}, False),
        ({"error": "disk full"}, False),
        ({"error": {"message": "m"}, "level": "error"}, False),
        ([1], False),
    ],
)
def test_the_programs_own_json_is_not_taken_for_an_event(line: Any, ours: bool) -> None:
    assert (_event(a_child(), json.dumps(line).encode()) is not None) == ours


def test_text_is_no_event() -> None:
    assert _event(a_child(), b"hello") is None
    assert _event(a_child(), b"\xff\xfe") is None


async def test_lines_of_any_length_are_read() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\r\ntwo\n" + b"x" * 200_000 + b"\nlast")
    stream.feed_eof()
    lines = [line async for line in _lines(stream)]
    assert lines[:2] == [b"one", b"two"]
    assert b"".join(lines[2:-1]) == b"x" * 200_000
    assert lines[-1] == b"last"
    assert max(map(len, lines)) < 200_000


def test_a_death_is_explained() -> None:
    assert _reason(-9) == "it was killed by SIGKILL"
    assert _reason(3) == "it ended with exit code 3"
    assert _reason(-99) == "it was killed by signal 99"
