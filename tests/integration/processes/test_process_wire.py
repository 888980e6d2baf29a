"""Two nodes whose calls go over NATS, and one of them dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from process_harness import SAMPLE, Coterie, command, traces
from process_sample import app, work

from coterie import lab
from coterie.errors import Outcome, Unavailable
from coterie.node import NodeConfig


async def _traced(folder: Path, count: int) -> None:
    async with asyncio.timeout(30):
        while len(traces(folder)) < count:
            await asyncio.sleep(0.01)


async def test_calls_go_on_when_one_of_two_nodes_is_killed(
    start_node: Callable[..., Coterie], tmp_path: Path
) -> None:
    async with lab.start("nats") as servers:
        options = ("--wire", servers.url, "--engine", f"sqlite:///{tmp_path}/sample.db")
        nodes = [await asyncio.to_thread(start_node, "--name", name, *options) for name in ("one", "two")]
        ready = [next(event for event in node.events if event["event"] == "ready") for node in nodes]
        assert all(event["wire"].startswith("nats:") for event in ready)
        told = await asyncio.to_thread(
            command, "call", str(SAMPLE), "Work.do", '{"mark": "mark"}', *options, folder=tmp_path
        )
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout) in {node.pid for node in nodes}
        config = NodeConfig(engine=f"sqlite:///{tmp_path}/sample.db", wire=servers.url)
        async with app.connect(config=config):
            answered = {await work.do("mark") for _ in range(20)}
            assert answered == {node.pid for node in nodes}
            held = [asyncio.create_task(work.hold("held")) for _ in range(16)]
            await _traced(tmp_path, 37)
            nodes[0].kill()
            async with asyncio.timeout(30):
                done, _ = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
                assert await work.do("later") == nodes[1].pid
            assert 0 < len(done) < 16
            for call in held:
                call.cancel()
            ended = await asyncio.gather(*held, return_exceptions=True)
            lost = [error for error in ended if isinstance(error, Unavailable)]
            assert {error.outcome for error in lost} == {Outcome.UNKNOWN}
