"""`Log` on PostgreSQL.

A partition's next offset is a row that an append locks until it is committed. So offsets are dense, and
whoever sees a record sees all before it: no reader skips an append under way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import Conflict, CorruptData, InvalidArgument, NotFound, Outcome, TooLarge, Unavailable
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
from .lane import Answer
from .reads import Page, Reads

if TYPE_CHECKING:
    from .engine import PostgresEngine

__all__ = ["QUERY_LINKS", "Append", "PostgresLog", "pack_appends", "pack_here", "unpack_appends"]

# One row for the whole page, its records as one array of msgpack (0xdd begins one): client and server take
# half the time that a row for each record costs. The order of what is aggregated is that of the page beneath.
# Offsets have no gaps: they are counted in the transaction that keeps the records.
_READ = """
SELECT t.partitions, b.first, r.low, r.high, r.times, r.records FROM @.topics t
LEFT JOIN @.bounds b ON b.topic = t.id AND b.partition = $2
LEFT JOIN LATERAL (
  SELECT min(number) AS low, max(number) AS high, array_agg(time) AS times,
    '\\xdd'::bytea || int4send(count(*)::int) || string_agg(record, ''::bytea) AS records FROM PAGE
) r ON true WHERE t.name = $1
"""
_PAGE = """(SELECT number, time, record FROM @.records
    WHERE topic = t.id AND partition = $2 AND number >= $3 ORDER BY number LIMIT $4) page"""
_MAX_PAGE_BYTES = 16 * 1024 * 1024
# To count the bytes costs half as much again, so it is done where they may be many.
_COUNTED = f"""(SELECT number, time, record FROM
    (SELECT *, sum(octet_length(record)) OVER (ORDER BY number) - octet_length(record) AS before
      FROM {_PAGE}) sized
    WHERE before < {_MAX_PAGE_BYTES} ORDER BY number) counted"""  # noqa: S608 - constants
_READ_QUICKLY = _READ.replace("PAGE", _PAGE)
_READ_LARGE = _READ.replace("PAGE", _COUNTED)
_QUICK_LIMIT = 1000
_BOUNDS = """
SELECT t.id, t.partitions, b.first, b.next FROM @.topics t
LEFT JOIN @.bounds b ON b.topic = t.id AND b.partition = $2 WHERE t.name = $1
"""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode
_MAX_OFFSET = 2**63 - 1
QUERY_LINKS = 3
"""How many connections there are for questions, and so how many pages are read at once."""
_MAX_APPEND_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Append:
    """Encoded records for one partition, and after packing their place in the batch."""

    topic: str
    partition: int
    records: list[bytes]
    place: int = 0
    end: int = 0
    """How many records of the batch are for that partition up to the last of these."""


def pack_appends(appends: Sequence[Append]) -> tuple[Any, ...]:
    """Return the columns of the places and those of the records.

    Places are sorted, so that two writers never wait for each other.
    """
    sizes: dict[tuple[str, int], int] = {}
    for append in sorted(appends, key=lambda append: (append.topic, append.partition)):
        sizes[append.topic, append.partition] = 0
    numbers = {place: number for number, place in enumerate(sizes, 1)}
    places: list[int] = []
    ordinals: list[int] = []
    records: list[bytes] = []
    for append in appends:
        key = (append.topic, append.partition)
        start = sizes[key]
        append.place = numbers[key]
        append.end = sizes[key] = start + len(append.records)
        places += [append.place] * len(append.records)
        ordinals += range(start, append.end)
        records += append.records
    topics, partitions = zip(*sizes, strict=True)
    return topics, partitions, list(sizes.values()), places, ordinals, records


def pack_here(appends: Sequence[Append]) -> tuple[Any, ...] | None:
    """Return the place and the records if all appends are for one place, else None."""
    topic, partition = appends[0].topic, appends[0].partition
    records: list[bytes] = []
    for append in appends:
        if append.topic != topic or append.partition != partition:
            return None
        records += append.records
        append.place, append.end = 1, len(records)
    return topic, partition, records


def unpack_appends(appends: Sequence[Append], answer: Answer) -> list[int | Exception]:
    """Return the offset of each append's last record, or its error."""
    codes, numbers, _ = answer
    results: list[int | Exception] = []
    for append in appends:
        code, number = codes[append.place - 1], numbers[append.place - 1]
        results.append(
            number + append.end - 1 if code == 0 else _missing(append.topic, append.partition, number)
        )
    return results


def _missing(topic: str, partition: int, partitions: int | None) -> NotFound:
    if not partitions:
        return NotFound(f"there is no topic {topic!r}", hint="create it first")
    return NotFound(f"the topic {topic!r} has partitions 0 to {partitions - 1}, not {partition}")


class PostgresLog:
    """Topics as rows of the same schema, on connections of their own."""

    def __init__(self, engine: PostgresEngine, guarantees: LogGuarantees) -> None:
        self._engine = engine
        self._guarantees = guarantees
        self._quick, self._large = (
            statement.replace("@", engine.config.schema) for statement in (_READ_QUICKLY, _READ_LARGE)
        )
        self._reads = Reads(self._read, QUERY_LINKS, engine.config.max_queue)
        self._record_bytes = math.inf
        """The size of the records that were read last, on average."""
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def guarantees(self) -> LogGuarantees:
        return self._guarantees

    async def create(self, topic: str, partitions: int) -> None:
        validate_topic(topic, partitions, self._guarantees)
        self._check()
        [[found]] = await self._engine.query("SELECT @.create_topic($1, $2)", topic, partitions)
        if found != partitions:
            raise Conflict(f"the topic {topic!r} has {found} partitions, not {partitions}")

    async def topics(self) -> dict[str, int]:
        self._check()
        return dict(await self._engine.query("SELECT name, partitions FROM @.topics ORDER BY name"))

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        validate_records(records, self._guarantees)
        self._check()
        self._validate_place(topic, partition)
        for record in records:
            if type(record.key) is not str:
                raise InvalidArgument(f"a record's key must be a str, not {record.key!r}")
        encoded = [_encode(record) for record in records]
        size = sum(map(len, encoded))
        if size > _MAX_APPEND_BYTES:
            raise TooLarge(f"{size} bytes in one append; the limit is {_MAX_APPEND_BYTES}")
        return await self._engine.appends.ask(Append(topic, partition, encoded), size)

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        validate_limit(limit)
        self._check()
        self._validate_place(topic, partition)
        return await self._reads.read((topic, partition, _within(offset), limit))

    async def _read(self, page: Page, since: float) -> Segment:
        topic, partition, offset, limit = page
        deadline = since + self._engine.config.operation_timeout_s
        # Unless the last records were large, these are not; one page of 1,000 that are is the worst.
        quick = limit <= _QUICK_LIMIT and limit * self._record_bytes <= _MAX_PAGE_BYTES
        statement = self._quick if quick else self._large
        try:
            rows = await self._engine.free_link().ask_in_turn(statement, page, deadline)
        except Unavailable:
            self._record_bytes = math.inf  # Perhaps the page was larger than the server can make one of.
            raise
        if not rows or rows[0]["first"] is None:
            raise _missing(topic, partition, rows[0]["partitions"] if rows else None)
        [[_partitions, first, low, high, times, blob]] = rows
        if low is None:
            return Segment((), max(offset, first))
        offsets = range(low, high + 1)
        if len(offsets) != len(times):
            raise CorruptData(f"{topic!r}, partition {partition}: of {low} to {high} records are missing")
        self._record_bytes = len(blob) / len(times)
        return Segment(tuple(map(Stored, offsets, _decode(blob), times)), high + 1)

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        self._check()
        id_, bounds = await self._bounds(topic, partition)
        while bounds.next <= max(offset, bounds.first):
            news = asyncio.ensure_future(
                self._engine.news.wait_record((topic, partition), id_, _within(offset))
            )
            try:
                await asyncio.wait({news, self._closed}, return_when=asyncio.FIRST_COMPLETED)
                self._check()
                news.result()
            finally:
                news.cancel()
            now, bounds = await self._bounds(topic, partition)
            if now != id_:
                raise NotFound(f"the topic {topic!r} was deleted, and made anew")

    async def bounds(self, topic: str, partition: int) -> Bounds:
        self._check()
        return (await self._bounds(topic, partition))[1]

    async def trim(self, topic: str, partition: int, before: int) -> None:
        self._check()
        self._validate_place(topic, partition)
        [[missing]] = await self._engine.query(
            "SELECT @.trim_topic($1, $2, $3)", topic, partition, _within(before), idempotent=False
        )
        if missing:
            raise _missing(topic, partition, missing if missing > 0 else None)

    async def delete(self, topic: str) -> None:
        self._check()
        self._validate_place(topic, 0)
        await self._engine.query("SELECT @.delete_topic($1)", topic, idempotent=False)
        self._engine.news.appended()

    async def close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    def _check(self) -> None:
        if self._closed.done():
            raise Unavailable("the log is closed", outcome=Outcome.NOT_APPLIED)

    def _validate_place(self, topic: str, partition: int) -> None:
        try:
            topic.encode()
        except (AttributeError, UnicodeEncodeError):
            raise InvalidArgument(f"a topic's name must be a str of valid Unicode, not {topic!r}") from None
        if "\0" in topic:
            raise NotFound(f"there is no topic {topic!r}: no name holds a NUL character")
        if type(partition) is not int or not 0 <= partition < self._guarantees.max_partitions:
            raise NotFound(f"there is no partition {partition!r}: they are counted from 0")

    async def _bounds(self, topic: str, partition: int) -> tuple[int, Bounds]:
        self._validate_place(topic, partition)
        rows = await self._engine.query(_BOUNDS, topic, partition)
        if not rows or rows[0]["first"] is None:
            raise _missing(topic, partition, rows[0]["partitions"] if rows else None)
        return rows[0]["id"], Bounds(rows[0]["first"], rows[0]["next"])


def _within(offset: int) -> int:
    """Return `offset` as a column can hold it."""
    if type(offset) is not int:
        raise InvalidArgument(f"an offset must be an int, not {offset!r}")
    return max(0, min(offset, _MAX_OFFSET))
