"""Signals: what a node accepted is finished, what it did not accept never happened."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from process_buyer import hammer_until_gone
from process_harness import COTERIE, PATIENCE_S, SAMPLE, Coterie, clean_environment, eventually, traces

from coterie import App
from coterie.app import load_app
from coterie.errors import Unavailable
from coterie.node import NodeConfig, connect
from coterie.services import make_client

StartNode = Callable[..., Coterie]


def hold(http: httpx.AsyncClient, node: Coterie) -> asyncio.Task[httpx.Response]:
    """Send a request that the node never answers by itself."""
    request = http.post(
        f"{node.events[-1]['http']}/Work/hold", json={"mark": "held"}, headers={"Coterie-Timeout": "300"}
    )
    return asyncio.create_task(request)


def client_of(app: App) -> Any:
    """Return a client of the sample's service."""
    return make_client(app.clients["Work"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_no_accepted_http_request_is_dropped(
    start_node: StartNode, tmp_path: Path, number: int
) -> None:
    node = start_node()
    buyers = await hammer_until_gone(node, number)
    assert await asyncio.to_thread(node.wait) == 0
    assert [event["event"] for event in node.events] == ["ready", "draining", "stopped"]
    assert node.events[-1]["unfinished"] == 0
    assert [mark for buyer in buyers for mark in buyer.dropped] == []
    # Each answered one was done once, and of those that were refused or closed on, none.
    assert Counter(traces(tmp_path)) == Counter(mark for buyer in buyers for mark in buyer.answered)
    assert all(buyer.refused for buyer in buyers)


async def test_a_node_that_does_not_drain_is_caught(start: Callable[..., Coterie], tmp_path: Path) -> None:
    mutant = str(SAMPLE.with_name("process_mutant.py"))
    node = start("run", mutant, "--http", "127.0.0.1:0", "--json")
    node.wait_event("ready")
    buyers = await hammer_until_gone(node, signal.SIGTERM)
    answered = Counter(mark for buyer in buyers for mark in buyer.answered)
    assert any(buyer.dropped for buyer in buyers) or Counter(traces(tmp_path)) != answered


async def test_no_call_between_nodes_is_dropped_and_none_is_done_twice(
    start_node: StartNode, tmp_path: Path
) -> None:
    nodes = [start_node("--name", f"n{number}") for number in range(2)]
    app = load_app(str(SAMPLE))
    config = NodeConfig(data=str(tmp_path / ".coterie"), http="off")
    answers: list[int] = []
    stop = asyncio.Event()

    async def caller(name: int) -> None:
        number = 0
        while not stop.is_set():
            answers.append(await work.do(f"c{name}-{number}", 0.002))
            number += 1

    async with connect(app, config=config), asyncio.timeout(PATIENCE_S):
        work = client_of(app)
        callers = [asyncio.create_task(caller(name)) for name in range(16)]
        while len(set(answers)) < 2 or len(answers) < 200:
            await asyncio.sleep(0.005)
        nodes[0].signal(signal.SIGTERM)
        assert await asyncio.to_thread(nodes[0].wait) == 0
        more = len(answers) + 100
        while len(answers) < more:
            await asyncio.sleep(0.005)
        stop.set()
        await asyncio.gather(*callers)
    done = Counter(traces(tmp_path))
    assert len(done) == len(answers)
    assert set(done.values()) == {1}
    assert nodes[0].events[-1]["unfinished"] == 0
    assert set(answers[-50:]) == {nodes[1].pid}


async def test_a_second_signal_hurries(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node("--drain-s", "600")
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        request = hold(http, node)
        await asyncio.to_thread(eventually, lambda: traces(tmp_path) == ["held"], "the call came in")
        node.signal(signal.SIGTERM)
        assert await asyncio.to_thread(node.wait_event, "draining")
        assert not request.done()
        node.signal(signal.SIGTERM)
        assert await asyncio.to_thread(node.wait) == 0
        reply = await request
    assert node.events[-1]["unfinished"] == 1
    # It is told that nobody knows whether it happened.
    assert (reply.status_code, reply.json()["outcome"]) == (503, "unknown")


async def test_what_does_not_end_is_cut_off_after_the_drain(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node("--drain-s", "0.3")
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        request = hold(http, node)
        await asyncio.to_thread(eventually, lambda: traces(tmp_path) == ["held"], "the call came in")
        node.signal(signal.SIGTERM)
        assert await asyncio.to_thread(node.wait) == 0
        assert (await request).status_code == 503
    assert node.events[-1]["unfinished"] == 1


def test_a_node_drains_when_its_input_ends(start: Callable[..., Coterie], tmp_path: Path) -> None:
    with subprocess.Popen(
        (*COTERIE, "run", str(SAMPLE), "--http", "off", "--json", "--until-eof"),
        cwd=tmp_path, env=clean_environment(tmp_path),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "ready"
        process.stdin.write("this is not the end\n")
        process.stdin.flush()
        process.stdin.close()
        assert [json.loads(line)["event"] for line in process.stdout] == ["draining", "stopped"]
        assert process.wait(PATIENCE_S) == 0


async def test_a_killed_node_comes_back_under_its_name_with_its_state(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node("--name", "phoenix", "--lease-s", "3600")
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        for expected in (1, 2, 3):
            reply = await http.post(f"{node.events[-1]['http']}/Work/count", json={"key": "k"})
            assert reply.json() == expected
        node.kill()
        # At once: the lease of the dead one, an hour long, is not waited for.
        again = start_node("--name", "phoenix", "--lease-s", "3600")
        assert again.events[-1]["node"] == "phoenix"
        reply = await http.post(f"{again.events[-1]['http']}/Work/count", json={"key": "k"})
        assert reply.json() == 4


async def test_a_caller_learns_that_the_outcome_is_unknown(start_node: StartNode, tmp_path: Path) -> None:
    start_node()
    app = load_app(str(SAMPLE))
    async with connect(app, config=NodeConfig(data=str(tmp_path / ".coterie"), http="off")):
        with pytest.raises(Unavailable) as caught:
            await client_of(app).die()
    assert caught.value.outcome.value == "unknown"
