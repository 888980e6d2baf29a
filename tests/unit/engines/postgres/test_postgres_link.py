"""What a connection that is broken off raises becomes an outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coterie.engines.postgres.config import PostgresConfig
from coterie.engines.postgres.link import Link
from coterie.engines.system import SystemEntropy
from coterie.errors import Outcome, Unavailable


class BrokenOff:
    """Ends between two steps of a query, as asyncpg does: its protocol is None then."""

    def __init__(self, *, closed: bool) -> None:
        self._closed = closed
        self._protocol: Any = None

    def is_closed(self) -> bool:
        return False if self._protocol is None else self._closed

    async def fetch(self, statement: str, *values: object) -> list[object]:
        del statement, values
        self.is_closed = lambda: self._closed  # type: ignore[method-assign]
        return list(self._protocol.get_timeout())

    def terminate(self) -> None:
        return


def link_to(connection: BrokenOff) -> Link:
    config = PostgresConfig(dsn="postgresql://nobody@127.0.0.1:1/none")
    link = Link(config, SystemEntropy())
    link._connection = connection
    return link


async def test_what_was_broken_off_has_an_unknown_outcome() -> None:
    link = link_to(BrokenOff(closed=True))
    deadline = asyncio.get_running_loop().time() + 5
    with pytest.raises(Unavailable) as told:
        await link.ask("SELECT 1", deadline=deadline, idempotent=False)
    assert told.value.outcome is Outcome.UNKNOWN


async def test_a_mistake_of_ours_stays_one() -> None:
    link = link_to(BrokenOff(closed=False))
    deadline = asyncio.get_running_loop().time() + 5
    with pytest.raises(AttributeError):
        await link.ask("SELECT 1", deadline=deadline, idempotent=False)
