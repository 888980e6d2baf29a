"""`Log` on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...errors import InvalidArgument, NotFound, TooLarge
from ...ports.guarantees import Durability, Scope
from ...ports.log import (
    Bounds,
    LogGuarantees,
    Record,
    Segment,
    Stored,
    validate_limit,
    validate_records,
    validate_topic,
)
from .batch import RecordBlob
from .hub import closed_error
from .operations import Append, CreateTopic, DeleteTopic, Trim
from .schema import foreign

if TYPE_CHECKING:
    from .engine import SqliteEngine

__all__ = ["SqliteLog"]

_BOUNDS = "SELECT first, next FROM bounds WHERE topic = ? AND partition = ?"
_READ = (
    "SELECT offset, time, record FROM records"
    " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?"
)
_decode = RecordBlob.decode
_MAX_APPEND_BYTES = 128 * 1024 * 1024
_MAX_OFFSET = 2**63 - 1


class SqliteLog:
    """Topics as rows of the same file, written by the same writer as the store."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self._path = engine.config.path
        self._sql = engine.reader
        self._closed = False
        full = engine.config.synchronous == "full"
        self._guarantees = LogGuarantees(
            engine="sqlite",
            durability=Durability.POWER_LOSS if full else Durability.PROCESS_CRASH,
            scope=Scope.MACHINE,
            notes=("All processes are on one machine; the file must be on a local disk.",),
        )

    @property
    def guarantees(self) -> LogGuarantees:
        return self._guarantees

    async def create(self, topic: str, partitions: int) -> None:
        validate_topic(topic, partitions, self._guarantees)
        self._check()
        await self._engine.ask(CreateTopic(topic, partitions))

    async def topics(self) -> dict[str, int]:
        self._check()
        return dict(self._rows("SELECT name, partitions FROM topics ORDER BY name", ()))

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        validate_records(records, self._guarantees)
        self._check()
        self._validate_place(topic, partition)
        size = 0
        for record in records:
            size += len(record.value)
            if type(record.key) is not str:
                raise InvalidArgument(f"a record's key must be a str, not {record.key!r}")
        if size > _MAX_APPEND_BYTES:
            raise TooLarge(f"{size} bytes in one append; the limit is {_MAX_APPEND_BYTES}")
        return await self._engine.ask(Append(topic, partition, tuple(records)))

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        validate_limit(limit)
        self._check()
        offset = _within(offset)
        rows = self._rows(_READ, (*self._place(topic, partition), offset, limit))
        records = tuple(Stored(at, _decode(blob), time) for at, time, blob in rows)
        if records:
            return Segment(records, records[-1].offset + 1)
        bounds = self._bounds(topic, partition)
        return Segment((), max(offset, bounds.first))

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        id_, _ = self._place(topic, partition)
        while True:
            self._check()
            if self._place(topic, partition)[0] != id_:
                raise NotFound(f"the topic {topic!r} was deleted, and made anew")
            # Before the look at the file, so that nothing that comes after the look is missed.
            news = self._engine.hub.waiter(topic, partition)
            try:
                bounds = self._bounds(topic, partition)
                if bounds.next > max(offset, bounds.first):
                    return
                await news
            finally:
                news.cancel()

    async def bounds(self, topic: str, partition: int) -> Bounds:
        self._check()
        return self._bounds(topic, partition)

    async def trim(self, topic: str, partition: int, before: int) -> None:
        self._check()
        self._validate_place(topic, partition)
        await self._engine.ask(Trim(topic, partition, _within(before)))

    async def delete(self, topic: str) -> None:
        self._check()
        self._validate_place(topic, 0)
        await self._engine.ask(DeleteTopic(topic))

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._engine.hub.resync()

    def _check(self) -> None:
        if self._closed or self._engine.hub.closed:
            self._closed = True
            raise closed_error("log")

    def _validate_place(self, topic: str, partition: int) -> None:
        try:
            topic.encode()
        except (AttributeError, UnicodeEncodeError):
            raise InvalidArgument(f"a topic's name must be a str of valid Unicode, not {topic!r}") from None
        if type(partition) is not int or not 0 <= partition < self._guarantees.max_partitions:
            raise NotFound(f"there is no partition {partition!r}: they are counted from 0")

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        try:
            return self._sql.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise foreign(error, self._path) from error

    def _place(self, topic: str, partition: int) -> tuple[int, int]:
        self._validate_place(topic, partition)
        rows = self._rows("SELECT id, partitions FROM topics WHERE name = ?", (topic,))
        if not rows:
            raise NotFound(f"there is no topic {topic!r}", hint="create it first")
        id_, partitions = rows[0]
        if not 0 <= partition < partitions:
            raise NotFound(f"the topic {topic!r} has partitions 0 to {partitions - 1}, not {partition}")
        return id_, partition

    def _bounds(self, topic: str, partition: int) -> Bounds:
        rows = self._rows(_BOUNDS, self._place(topic, partition))
        if not rows:
            raise NotFound(f"the topic {topic!r} was deleted")
        first, following = rows[0]
        return Bounds(first, following)


def _within(offset: int) -> int:
    """Return `offset` as a column of the file can hold it."""
    if type(offset) is not int:
        raise InvalidArgument(f"an offset must be an int, not {offset!r}")
    return max(0, min(offset, _MAX_OFFSET))
