"""`Log` on Redis and Valkey: one stream a partition, with offsets of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import Conflict, InvalidArgument, NotFound, Outcome, TooLarge, Unavailable
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
from . import scripts
from .link import ScriptArgument

if TYPE_CHECKING:
    from .engine import RedisEngine

__all__ = ["RedisLog"]

_MAX_APPEND_BYTES = 64 * 1024 * 1024
_MAX_OFFSET = 2**52
_KEPT_APPENDS = 1024

_encode = msgspec.msgpack.Encoder().encode


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record as the server sends it; the time is in microseconds."""

    offset: int
    time_us: int
    record: Record


_decode = msgspec.msgpack.Decoder(list[_Row]).decode


class RedisLog:
    """Each call is one script of the server."""

    def __init__(self, engine: RedisEngine, guarantees: LogGuarantees) -> None:
        self._engine = engine
        self._guarantees = guarantees
        self._closed = False
        self._waiting: dict[bytes, set[asyncio.Future[None]]] = {}

    @property
    def guarantees(self) -> LogGuarantees:
        return self._guarantees

    async def create(self, topic: str, partitions: int) -> None:
        validate_topic(topic, partitions, self._guarantees)
        self._check()
        known = int(await self._engine.link.run(scripts.CREATE, topic, partitions))
        if known != partitions:
            raise Conflict(f"the topic {topic!r} has {known} partitions, not {partitions}")

    async def topics(self) -> dict[str, int]:
        self._check()
        words: list[bytes] = await self._engine.link.run(scripts.TOPICS)
        pairs = zip(words[::2], words[1::2], strict=True)
        return {name.decode(): int(known.split()[0]) for name, known in pairs}

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        validate_records(records, self._guarantees)
        for record in records:
            if type(record.key) is not str:
                raise InvalidArgument(f"a record's key must be a str, not {record.key!r}")
        blobs = [_encode(record) for record in records]
        size = sum(map(len, blobs))
        if size > _MAX_APPEND_BYTES:
            raise TooLarge(f"{size} bytes in one append; the limit is {_MAX_APPEND_BYTES}")
        answer = await self._run(scripts.APPEND, topic, partition, _KEPT_APPENDS, *blobs)
        return int(answer[1]) - 1

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        validate_limit(limit)
        offset = _within(offset)
        answer = await self._run(scripts.READ, topic, partition, offset, limit)
        rows = _decode(answer[1])
        records = tuple([Stored(row.offset, row.record, row.time_us / 1e6) for row in rows])
        if records:
            return Segment(records, records[-1].offset + 1)
        return Segment((), max(offset, int(answer[2])))

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        offset, uid = _within(offset), b""
        while True:
            self._check()
            await self._engine.follower.follow()
            answer = await self._run(scripts.BOUNDS, topic, partition)
            if uid and answer[3] != uid:
                raise NotFound(f"the topic {topic!r} was deleted, and made anew")
            uid = answer[3]
            # Registered before the look that decides, so that nothing which comes after it is missed.
            news = self._register(uid + b"/%d" % partition)
            try:
                answer = await self._run(scripts.BOUNDS, topic, partition)
                if answer[3] == uid and int(answer[2]) > max(offset, int(answer[1])):
                    return
                if answer[3] == uid:
                    await news
            finally:
                news.cancel()

    async def bounds(self, topic: str, partition: int) -> Bounds:
        answer = await self._run(scripts.BOUNDS, topic, partition)
        return Bounds(int(answer[1]), int(answer[2]))

    async def trim(self, topic: str, partition: int, before: int) -> None:
        await self._run(scripts.TRIM, topic, partition, _within(before))

    async def delete(self, topic: str) -> None:
        self._check()
        _validate_name(topic)
        await self._engine.link.run(scripts.DELETE, topic, _KEPT_APPENDS)

    async def close(self) -> None:
        self._closed = True
        self.appended(None)

    def appended(self, places: set[bytes] | None) -> None:
        """Wake who waits for records in these partitions, or everyone."""
        for place in list(self._waiting) if places is None else places:
            for news in self._waiting.pop(place, ()):
                if not news.done():
                    news.set_result(None)

    def _register(self, place: bytes) -> asyncio.Future[None]:
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(place, set()).add(news)
        news.add_done_callback(lambda done: self._forget(place, done))
        return news

    def _forget(self, place: bytes, news: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(place)
        if waiting is not None:
            waiting.discard(news)
            if not waiting:
                del self._waiting[place]

    def _check(self) -> None:
        if self._closed or self._engine.closed:
            raise Unavailable("the log is closed", outcome=Outcome.NOT_APPLIED)

    async def _run(
        self, script: scripts.Script, topic: str, partition: int, *arguments: ScriptArgument
    ) -> list[Any]:
        self._check()
        _validate_name(topic)
        if type(partition) is not int or not 0 <= partition < self._guarantees.max_partitions:
            raise NotFound(f"there is no partition {partition!r}: they are counted from 0")
        answer: list[Any] = await self._engine.link.run(script, topic, partition, *arguments)
        if answer[0] == b"no topic":
            raise NotFound(f"there is no topic {topic!r}", hint="create it first")
        if answer[0] == b"no partition":
            raise NotFound(
                f"the topic {topic!r} has the partitions 0 to {int(answer[1]) - 1}, not {partition}"
            )
        return answer


def _validate_name(topic: str) -> None:
    try:
        topic.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidArgument(f"a topic's name must be a str of valid Unicode, not {topic!r}") from None


def _within(offset: int) -> int:
    if type(offset) is not int:
        raise InvalidArgument(f"an offset must be an int, not {offset!r}")
    return max(0, min(offset, _MAX_OFFSET))
