"""A lock on etcd without its fencing token lets two write (etcd issue 11456); with it, it does not."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from etcd_holder import acquire, write
from etcd_tools import engine_at

from coterie import lab
from coterie.errors import Conflict
from coterie.history import Recorder, check

HOLDER = Path(__file__).with_name("etcd_holder.py")


@pytest.mark.parametrize("fenced", [False, True])
async def test_a_holder_that_is_paused_past_its_lease(fenced: bool) -> None:
    ticks = itertools.count()
    recorder = Recorder(lambda: next(ticks))
    async with lab.start("etcd") as cluster, engine_at(cluster.url) as engine:
        store = engine.store
        recorder.invoke("first", "acquire", key="lock")
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, HOLDER, cluster.url, "fenced" if fenced else "bare"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            first = (await told(holder))["token"]
            recorder.ok("first", first)
            await stopped(holder.pid)
            async with store.watch("lock") as watch:
                batch = await anext(watch)
                while any(change.value is not None for change in batch.changes):
                    batch = await anext(watch)  # Until the lease of the stopped holder has ended.
            recorder.invoke("second", "acquire", key="lock")
            _lease, second = await acquire(store)
            recorder.ok("second", second)
            assert second > first
            recorder.invoke("second", "write", key="lock", value=second)
            await write(store, second, fenced=fenced)
            recorder.ok("second")
            recorder.invoke("first", "write", key="lock", value=first)
            os.kill(holder.pid, signal.SIGCONT)
            if (await told(holder))["written"]:
                recorder.ok("first")
            else:
                recorder.fail("first", "fenced")
            await holder.wait()
        finally:
            if holder.returncode is None:
                holder.kill()
                await holder.wait()
        entry = await store.get("guarded")
        assert entry is not None
        verdict = check(recorder.history, "mutex", mode="fenced")
        if fenced:
            assert verdict.ok
            assert int(entry.value) == second
        else:
            # What the second holder wrote is overwritten by one that no longer held the lock.
            assert verdict.anomaly == "stale-write", verdict
            assert int(entry.value) == first


async def test_a_lock_that_is_held_is_not_taken() -> None:
    async with lab.start("etcd") as cluster, engine_at(cluster.url) as engine:
        await acquire(engine.store)
        with pytest.raises(Conflict):
            await acquire(engine.store)


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    return dict(json.loads(await process.stdout.readline()))


async def stopped(pid: int) -> None:
    """Return when the process is stopped, as the kernel says."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        await asyncio.sleep(0.01)
