"""Nothing outlives a laboratory: not after the body, an error, a cancellation, or the end of its process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from coterie import lab
from coterie.lab import LabError

# A program that starts a cluster, tells of it, and then does nothing.
PROGRAM = """
import asyncio, json, sys
from coterie import lab

async def main():
    async with lab.start(sys.argv[1], members=int(sys.argv[2]), network="proxy") as cluster:
        members = [member.pid for member in cluster.members]
        print(json.dumps({"keeper": cluster.keeper_pid, "members": members, "folder": str(cluster.folder)}))
        sys.stdout.flush()
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@asynccontextmanager
async def program(engine: str, members: int) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, engine, str(members), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def all_of(facts: dict[str, Any]) -> list[psutil.Process]:
    """The keeper, the members and all that they started."""
    roots = [psutil.Process(pid) for pid in [facts["keeper"], *facts["members"]]]
    return list({process for root in roots for process in [root, *root.children(recursive=True)]})


async def gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(20):
        while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("engine", "members"), [("nats", 3), ("postgres", 1)])
async def test_after_a_kill_of_the_program(engine: str, members: int) -> None:
    async with program(engine, members) as (process, facts):
        processes = all_of(facts)
        assert len(processes) >= 4
        process.kill()
        await gone(processes)
        async with asyncio.timeout(10):  # the keeper is gone when this is done
            while Path(facts["folder"]).exists():
                await asyncio.sleep(0.05)


async def test_after_a_kill_of_the_keeper() -> None:
    async with program("postgres", 1) as (_, facts):
        processes = all_of(facts)
        os.kill(facts["keeper"], signal.SIGKILL)
        await gone(processes)
        shutil.rmtree(facts["folder"])  # nobody was left to do it


async def test_after_an_error_and_after_a_cancellation() -> None:
    async def body(started: asyncio.Future[list[psutil.Process]], fail: bool) -> None:
        async with lab.start("nats") as cluster:
            started.set_result([psutil.Process(cluster.members[0].pid)])
            if fail:
                raise LookupError("the test's own")
            await asyncio.Event().wait()

    for fail in (True, False):
        started: asyncio.Future[list[psutil.Process]] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(body(started, fail))
        processes = await started
        if fail:
            with pytest.raises(LookupError):
                await task
        else:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not any(process.is_running() for process in processes)


async def test_after_a_member_that_cannot_start() -> None:
    before = psutil.Process().children()
    with pytest.raises(
        LabError, match=r"(?s)nats-0 ended with 1.*the end of .*/nats-0/log.*is string, not int64"
    ):
        async with lab.start("nats", settings={"max_payload": "many"}):
            raise AssertionError("it started")
    assert psutil.Process().children() == before


async def test_a_given_folder_stays_with_its_logs(tmp_path: Path) -> None:
    async with lab.start("nats", folder=tmp_path / "kept"):
        pass
    assert "Server is ready" in (tmp_path / "kept" / "nats-0" / "log").read_text()
    with pytest.raises(LabError, match="is not empty"):
        async with lab.start("nats", folder=tmp_path / "kept"):
            pass


async def test_a_paused_member_ends_as_well() -> None:
    async with lab.start("postgres") as cluster:
        await cluster.pause(0)
        processes = [psutil.Process(cluster.members[0].pid)]
        processes += processes[0].children(recursive=True)
        assert processes[0].status() == psutil.STATUS_STOPPED
        # One that ended just before has no parent that could take notice.
        assert {process.status() for process in processes} <= {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    assert not any(process.is_running() for process in processes)
