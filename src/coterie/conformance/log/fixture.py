"""What the suite needs to know about the log under test, and the words its checks are written in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...ports.guarantees import Durability, Scope
from ...ports.log import Log, Record, Stored

__all__ = ["TOPIC", "LogFixture", "append", "durable", "everything", "several_clients", "values"]

TOPIC = "topic"


class LogFixture(Protocol):
    """A log with no topics and clients of it, all closed when the fixture ends."""

    @property
    def log(self) -> Log:
        """The first client."""
        ...

    async def connect(self) -> Log:
        """Return another client of the same data; the same object where the scope is the process."""
        ...

    async def reopen(self) -> Log:
        """Close every client and return a new one of the same data.

        Only called when the log guarantees at least `Durability.PROCESS_CRASH`.
        """
        ...


def durable(fixture: LogFixture) -> bool:
    """Whether acknowledged records outlive the clients."""
    return fixture.log.guarantees.durability >= Durability.PROCESS_CRASH


def several_clients(fixture: LogFixture) -> bool:
    """Whether a second client is another object, which can be closed by itself."""
    return fixture.log.guarantees.scope > Scope.PROCESS


async def append(log: Log, *texts: bytes, topic: str = TOPIC, partition: int = 0) -> int:
    """Append one record for each of `texts` in one call, and return the offset of the last."""
    return await log.append(topic, partition, [Record(text) for text in texts])


async def everything(
    log: Log, *, topic: str = TOPIC, partition: int = 0, offset: int = 0, limit: int = 1000
) -> list[Stored]:
    """Return all records at or beyond `offset`, read segment by segment."""
    found: list[Stored] = []
    while True:
        segment = await log.read(topic, partition, offset, limit=limit)
        if not segment.records:
            return found
        found += segment.records
        offset = segment.next_offset


def values(stored: Iterable[Stored]) -> list[bytes]:
    """Return the values of `stored`."""
    return [each.record.value for each in stored]
