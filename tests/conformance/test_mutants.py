"""Take one safeguard away, and a named check must see it: the suites can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from coterie.conformance import (
    LogFixture,
    LogSuite,
    StoreFixture,
    StoreSuite,
    Violation,
    WireSuite,
    run_check,
)
from coterie.errors import CoterieError
from coterie.ports.wire import Failure

from .engines import WIRES
from .mutants import log as logs
from .mutants import store as stores
from .mutants import wire as wires
from .standin import DiskLog, DiskLogs, DiskStore, DiskStores

# A mutant may hang where a good engine answers. The whole ones below need a fraction of this.
HANGS_S = 1.0
CAUGHT = (Violation, CoterieError, Failure, TimeoutError, StopAsyncIteration, msgspec.DecodeError)
STORE_CHECKS = {check.name: check for check in StoreSuite().checks()}
WIRE_CHECKS = {check.name: check for check in WireSuite().checks()}
LOG_CHECKS = {check.name: check for check in LogSuite().checks()}


@asynccontextmanager
async def disk_store(client: type[DiskStore]) -> AsyncIterator[StoreFixture]:
    clients = DiskStores(client)
    yield clients
    await clients.close()


@asynccontextmanager
async def disk_log(client: type[DiskLog]) -> AsyncIterator[LogFixture]:
    clients = DiskLogs(client)
    yield clients
    await clients.close()


@pytest.mark.parametrize("mutant", stores.MUTANTS, ids=lambda mutant: mutant.__name__)
async def test_store(mutant: type[stores.Mutant]) -> None:
    with pytest.raises(CAUGHT):
        await run_check(STORE_CHECKS[mutant.caught_by], lambda: disk_store(mutant), timeout_s=HANGS_S)


@pytest.mark.parametrize("mutant", logs.MUTANTS, ids=lambda mutant: mutant.__name__)
async def test_log(mutant: type[logs.Mutant]) -> None:
    with pytest.raises(CAUGHT):
        await run_check(LOG_CHECKS[mutant.caught_by], lambda: disk_log(mutant), timeout_s=HANGS_S)


@pytest.mark.parametrize("mutant", wires.MUTANTS, ids=lambda mutant: mutant.name)
async def test_wire(mutant: wires.Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, methods in mutant.replacements.items():
        for name, replacement in methods.items():
            monkeypatch.setattr(owner, name, replacement)
    before = asyncio.all_tasks()
    with pytest.raises(CAUGHT):
        await run_check(WIRE_CHECKS[mutant.caught_by], lambda: WIRES["memory"](tmp_path), timeout_s=HANGS_S)
    left = asyncio.all_tasks() - before  # handlers that nobody ends
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.mark.parametrize("name", STORE_CHECKS)
async def test_the_store_below_the_mutants_is_whole(name: str) -> None:
    promised = await run_check(STORE_CHECKS[name], lambda: disk_store(DiskStore))
    assert promised == (name != "several_keys_are_refused")


@pytest.mark.parametrize("name", LOG_CHECKS)
async def test_the_log_below_the_mutants_is_whole(name: str) -> None:
    assert await run_check(LOG_CHECKS[name], lambda: disk_log(DiskLog))
