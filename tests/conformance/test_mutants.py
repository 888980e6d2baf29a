"""Take one safeguard away, and a named check must see it: the suites can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from coterie.conformance import StoreFixture, StoreSuite, run_check

from .mutants import store as stores
from .standin import DiskStores

# A mutant may hang where a good engine answers. The unmutated ones below need a fraction of this.
HANGS_S = 2.5
STORE_CHECKS = {check.name: check for check in StoreSuite().checks()}


@pytest.mark.parametrize("mutant", stores.MUTANTS, ids=lambda mutant: mutant.__name__)
async def test_store(mutant: type[stores.Mutant]) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[StoreFixture]:
        clients = DiskStores(mutant)
        yield clients
        await clients.close()

    with pytest.raises(Exception) as caught:  # noqa: PT011 - a broken engine may raise anything
        await run_check(STORE_CHECKS[mutant.caught_by], broken, timeout_s=HANGS_S)
    print(mutant.__name__, repr(caught.value)[:150])


@pytest.mark.parametrize("name", STORE_CHECKS)
async def test_the_store_below_the_mutants_is_whole(name: str) -> None:
    @asynccontextmanager
    async def whole() -> AsyncIterator[StoreFixture]:
        clients = DiskStores()
        yield clients
        await clients.close()

    assert await run_check(STORE_CHECKS[name], whole) == (name != "several_keys_are_refused")
