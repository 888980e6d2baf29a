"""On every engine: who holds a lock or leads is stopped (SIGSTOP) past its lease, and then cannot write."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from real_engines import ENGINES, engine_url
from workers import check_increments, worker


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("what", ["lock", "lead"])
async def test_a_stopped_holder_cannot_write_when_it_goes_on(what: str, name: str, tmp_path: Path) -> None:
    async with (
        engine_url(name, tmp_path) as url,
        worker(url, "keep"),
        worker(url, what) as first,
        worker(url, what) as second,
    ):
        await first.more("wrote")
        await second.more("wrote")
        for _ in range(10):
            # To stop it between taking the lock and writing may take more than one attempt.
            await first.more("has")
            first.process.send_signal(signal.SIGSTOP)
            await second.more("wrote")
            await second.more("wrote")
            first.process.send_signal(signal.SIGCONT)
            refused = first.count("fenced")
            await first.more("has")
            if first.count("fenced") > refused:
                break
        assert first.count("fenced") > 0
        assert second.count("fenced") == 0
        await second.more("wrote")
        await first.end()
        await second.more("wrote")
        await second.end()
        await check_increments(url, first, second)
