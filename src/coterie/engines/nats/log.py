"""`Log` on NATS: one stream a partition.

The topics, and how far each partition was trimmed, are entries of the store's state machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...errors import Conflict, InvalidArgument, NotFound, Outcome, Unavailable
from ...ports.log import (
    Bounds,
    LogGuarantees,
    Record,
    Segment,
    validate_limit,
    validate_records,
    validate_topic,
)
from ...ports.store import ABSENT, Check, Commit, Put
from ._machine import DoCommit
from .link import ApiError
from .news import News
from .partition import SPAN, Partition

if TYPE_CHECKING:
    from .engine import NatsEngine

__all__ = ["NatsLog"]

_TOPICS = "\0topic/"
_TRIMS = "\0trim/"
_NO_STREAM = 10059

_encode = msgspec.msgpack.Encoder().encode
_decode_topic = msgspec.msgpack.Decoder(tuple[str, int]).decode
_decode_trim = msgspec.msgpack.Decoder(int).decode


class _Topic(NamedTuple):
    uid: str
    partitions: int
    version: int


class NatsLog:
    """Topics, each with one stream a partition."""

    def __init__(self, engine: NatsEngine, guarantees: LogGuarantees) -> None:
        self._engine = engine
        self._link = engine.link
        self._guarantees = guarantees
        self._closed = False
        self._partitions: dict[str, Partition] = {}
        self._news = News(engine.link)

    @property
    def guarantees(self) -> LogGuarantees:
        return self._guarantees

    async def create(self, topic: str, partitions: int) -> None:
        validate_topic(topic, partitions, self._guarantees)
        while True:
            known = await self._look_up(topic)
            if known is not None:
                if known.partitions != partitions:
                    raise Conflict(f"the topic {topic!r} has {known.partitions} partitions, not {partitions}")
                return
            # The streams are there before the topic is, so that whoever sees it can append.
            uid = self._engine.entropy.identifier()
            try:
                await asyncio.gather(*(self._make(uid, number) for number in range(partitions)))
                put = Put(_TOPICS + topic, _encode((uid, partitions)))
                await self._commit(Commit((put,), (), (Check(put.key, ABSENT),)))
            except Conflict:
                await self._drop(uid, partitions)
            else:
                return

    async def topics(self) -> dict[str, int]:
        self._check()
        await self._engine.replica.catch_up()
        found: dict[str, int] = {}
        after, more = "", True
        while more:
            page = self._engine.replica.machine.scan(_TOPICS, after, 1000)
            for entry in page.entries:
                found[entry.key.removeprefix(_TOPICS)] = _decode_topic(entry.value)[1]
                after = entry.key
            more = page.more
        return found

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        validate_records(records, self._guarantees)
        for record in records:
            if type(record.key) is not str:
                raise InvalidArgument(f"a record's key must be a str, not {record.key!r}")
        place = await self._place(topic, partition)
        try:
            offset = await place.append(records)
        except ApiError as error:
            raise self._link.refusal(error) from error
        self._news.tell_soon(place.stream, offset)
        return offset

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        validate_limit(limit)
        offset = _within(offset)
        while True:
            place = await self._place(topic, partition)
            start = max(offset, self._trimmed(place.stream)[0])
            # Of the oldest message a part may be trimmed, and this client may not have heard of it.
            heard = self._engine.replica.catch_up() if self._engine.replicas == 1 else None
            try:
                segment, at_oldest = await place.read(start, limit)
            except ApiError as error:
                await self._gone(error, topic)
                continue
            if heard is None and at_oldest:
                heard = self._engine.replica.catch_up()
            if heard is not None:
                await heard
            if self._trimmed(place.stream)[0] <= start:
                return segment

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        offset = _within(offset)
        first = await self._place(topic, partition)
        async with self._news.about(first.stream) as news:
            while True:
                place = await self._place(topic, partition)
                if place is not first:
                    raise NotFound(f"the topic {topic!r} was deleted, and made anew")
                news.clear()
                try:
                    if await place.end() > offset:
                        return
                except ApiError as error:
                    await self._gone(error, topic)
                    continue
                if await news.beyond(offset):
                    return

    async def bounds(self, topic: str, partition: int) -> Bounds:
        while True:
            place = await self._place(topic, partition)
            await self._engine.replica.catch_up()
            try:
                state = await place.state()
            except ApiError as error:
                await self._gone(error, topic)
                continue
            following = (int(state["last_seq"]) + 1) * SPAN
            if not state["messages"]:
                return Bounds(following, following)
            return Bounds(max(int(state["first_seq"]) * SPAN, self._trimmed(place.stream)[0]), following)

    async def trim(self, topic: str, partition: int, before: int) -> None:
        before = _within(before)
        while True:
            place = await self._place(topic, partition)
            try:
                await self._trim(place, before)
            except ApiError as error:
                await self._gone(error, topic)
            except Conflict:
                await self._engine.replica.catch_up()  # another client has trimmed meanwhile
            else:
                return

    async def _trim(self, place: Partition, before: int) -> None:
        # Never beyond the end: what is appended later is kept.
        state = await place.state()
        before = await place.whole(min(before, (int(state["last_seq"]) + 1) * SPAN))
        trimmed, version = self._trimmed(place.stream)
        if before > trimmed:
            put = Put(_TRIMS + place.stream, _encode(before))
            await self._commit(Commit((put,), (), (Check(put.key, version),)))
        # Also where someone else has trimmed: his purge may not have come.
        oldest = max(before, trimmed) // SPAN
        if oldest > int(state["first_seq"]):
            await self._link.api(f"STREAM.PURGE.{place.stream}", {"seq": oldest})

    async def delete(self, topic: str) -> None:
        _validate_name(topic)
        known = await self._look_up(topic, fresh=True)
        if known is None:
            return
        check = Check(_TOPICS + topic, known.version)
        with suppress(Conflict):
            await self._commit(Commit((), (check.key,), (check,)))
            await self._drop(known.uid, known.partitions)

    async def close(self) -> None:
        self._closed = True
        await self._news.close()
        for place in list(self._partitions.values()):
            await place.close()
        self._partitions.clear()

    # Places

    def _check(self) -> None:
        if self._closed or self._engine.closed:
            raise Unavailable("the log is closed", outcome=Outcome.NOT_APPLIED)

    async def _commit(self, commit: Commit) -> int:
        return await self._engine.replica.ask(DoCommit(commit))

    async def _look_up(self, topic: str, *, fresh: bool = False) -> _Topic | None:
        """Return what is known of a topic, or None when there is none."""
        self._check()
        _validate_name(topic)
        entry = self._engine.replica.machine.get(_TOPICS + topic)
        if entry is None or fresh:
            await self._engine.replica.catch_up()
            self._check()
            entry = self._engine.replica.machine.get(_TOPICS + topic)
        return None if entry is None else _Topic(*_decode_topic(entry.value), entry.version)

    async def _place(self, topic: str, partition: int) -> Partition:
        known = await self._look_up(topic)
        if known is None:
            raise _no_topic(topic)
        if type(partition) is not int or not 0 <= partition < known.partitions:
            raise NotFound(
                f"the topic {topic!r} has the partitions 0 to {known.partitions - 1}, not {partition}"
            )
        stream = self._stream(known.uid, partition)
        place = self._partitions.get(stream)
        if place is None:

            async def still_there() -> None:
                # Nobody listens: either nobody leads for the moment, or the topic was deleted.
                if await self._look_up(topic, fresh=True) is None:
                    raise _no_topic(topic)

            place = self._partitions[stream] = Partition(
                self._link,
                stream,
                replicas=self._engine.replicas,
                entropy=self._engine.entropy,
                still_there=still_there,
            )
        return place

    def _trimmed(self, stream: str) -> tuple[int, int]:
        """Return the offset below which all is let go of, and the version of its entry."""
        entry = self._engine.replica.machine.get(_TRIMS + stream)
        return (0, ABSENT) if entry is None else (_decode_trim(entry.value), entry.version)

    def _stream(self, uid: str, partition: int) -> str:
        return f"{self._engine.config.prefix}-log-{uid}-{partition}"

    async def _make(self, uid: str, partition: int) -> None:
        name = self._stream(uid, partition)
        await self._link.make_stream(name, [f"{name}.records"], self._engine.replicas, direct=True)

    async def _drop(self, uid: str, partitions: int) -> None:
        for partition in range(partitions):
            stream = self._stream(uid, partition)
            self._partitions.pop(stream, None)
            try:
                await self._link.api(f"STREAM.DELETE.{stream}")
            except ApiError as error:
                if not error.not_found:
                    raise self._link.refusal(error) from error
            await self._news.tell(stream, None)
        trims = tuple(_TRIMS + self._stream(uid, partition) for partition in range(partitions))
        await self._commit(Commit((), trims))

    async def _gone(self, error: ApiError, topic: str) -> None:
        """Return to look for the topic again if its stream was deleted; otherwise raise what it is."""
        if error.code != _NO_STREAM:
            raise self._link.refusal(error) from error
        if await self._look_up(topic, fresh=True) is None:
            raise _no_topic(topic) from error
        await asyncio.sleep(0.01)


def _no_topic(topic: str) -> NotFound:
    return NotFound(f"there is no topic {topic!r}", hint="create it first")


def _validate_name(topic: str) -> None:
    try:
        topic.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidArgument(f"a topic's name must be a str of valid Unicode, not {topic!r}") from None


def _within(offset: Any) -> int:
    if type(offset) is not int:
        raise InvalidArgument(f"an offset must be an int, not {offset!r}")
    return max(0, min(offset, 2**62))
