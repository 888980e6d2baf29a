"""`Log` on NATS: one stream a partition, one message an append.

The records of a message have the offsets from its sequence times 1024 on, so that an append is all there or
not at all. What was trimmed within a message is told by a message of its own in the same stream. Everything
is asked of the stream's leader. The topics are entries of the store's state machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from nats.aio.msg import Msg

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
from ...ports.store import ABSENT, Check, Commit, Put
from ._machine import DoCommit
from .link import ApiError
from .link import Stored as Message

if TYPE_CHECKING:
    from .engine import NatsEngine

__all__ = ["NatsLog"]

_SPAN = 1024
"""How many offsets a message has, at least as many as records."""
_TOPICS = "\0topic/"
_AT_ONCE = 64
_POLL_S = 0.5
_MAX_SEGMENT_BYTES = 16 * 1024 * 1024
_NO_STREAM = 10059

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


class NatsLog:
    """Topics, each with one stream a partition."""

    def __init__(self, engine: NatsEngine, guarantees: LogGuarantees) -> None:
        self._engine = engine
        self._link = engine.link
        self._guarantees = guarantees
        self._closed = False
        self._closing = asyncio.Event()

    @property
    def guarantees(self) -> LogGuarantees:
        return self._guarantees

    async def create(self, topic: str, partitions: int) -> None:
        validate_topic(topic, partitions, self._guarantees)
        while True:
            known = await self._look_up(topic)
            if known is not None:
                if known[1] != partitions:
                    raise Conflict(f"the topic {topic!r} has {known[1]} partitions, not {partitions}")
                return
            # The streams are there before the topic is, so that whoever sees it can append.
            uid = self._engine.entropy.identifier()
            try:
                await asyncio.gather(*(self._make(uid, number) for number in range(partitions)))
                put = Put(_TOPICS + topic, _encode((uid, partitions)))
                await self._engine.replica.ask(DoCommit(Commit((put,), (), (Check(put.key, ABSENT),))))
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
                found[entry.key.removeprefix(_TOPICS)] = msgspec.msgpack.decode(entry.value)[1]
                after = entry.key
            more = page.more
        return found

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        validate_records(records, self._guarantees)
        for record in records:
            if type(record.key) is not str:
                raise InvalidArgument(f"a record's key must be a str, not {record.key!r}")
        body = _encode(records)
        if len(body) > self._link.client.max_payload - 1024:
            raise TooLarge(
                f"{len(body)} bytes in one append; the server takes {self._link.client.max_payload}",
                hint="raise max_payload of the server, or append less at once",
            )
        stream = await self._place(topic, partition)
        id_ = self._engine.entropy.identifier()

        async def nobody() -> None:
            # Either nobody leads for the moment, or the topic was deleted and its stream is gone.
            if await self._look_up(topic, fresh=True) is None:
                raise _no_topic(topic)

        try:
            sequence = await self._link.publish(f"{stream}.records", body, id_, nobody=nobody)
        except ApiError as error:
            raise self._link.refusal(error) from error
        with suppress(Exception):
            await self._link.client.publish(f"{stream}-news", b"")
        return sequence * _SPAN + len(records) - 1

    async def read(self, topic: str, partition: int, offset: int, *, limit: int = 1000) -> Segment:
        validate_limit(limit)
        offset = _within(offset)
        while True:
            stream = await self._place(topic, partition)
            try:
                return await self._read(stream, offset, limit)
            except ApiError as error:
                await self._gone(error, topic)

    async def _read(self, stream: str, offset: int, limit: int) -> Segment:
        state, trimmed = await asyncio.gather(self._link.state(stream), self._trimmed(stream))
        start = max(offset, trimmed, int(state["first_seq"]) * _SPAN)
        following, last = max(start // _SPAN, 1), int(state["last_seq"])
        records: list[Stored] = []
        size, width = 0, 4
        while following <= last and len(records) < limit and size < _MAX_SEGMENT_BYTES:
            end = min(following + min(width, limit - len(records)), last + 1)
            asked = (self._link.message(stream, {"seq": number}) for number in range(following, end))
            for message in await asyncio.gather(*asked):
                if message is not None and message.subject.endswith(".records"):
                    size += len(message.data)
                    records += _records(message, start)
            following, width = end, _AT_ONCE
        del records[limit:]
        if records:
            return Segment(tuple(records), records[-1].offset + 1)
        return Segment((), start)

    async def wait(self, topic: str, partition: int, offset: int) -> None:
        offset = _within(offset)
        first = await self._place(topic, partition)
        news = asyncio.Event()

        async def heard(_message: Msg) -> None:
            news.set()

        subscription = await self._link.client.subscribe(f"{first}-news", cb=heard)
        try:
            while True:
                stream = await self._place(topic, partition)
                if stream != first:
                    raise NotFound(f"the topic {topic!r} was deleted, and made anew")
                news.clear()
                try:
                    _first, end = await self._ends(stream)
                    if end > offset:
                        return
                except ApiError as error:
                    await self._gone(error, topic)
                    continue
                await self._rest(news)
        finally:
            with suppress(Exception):
                await subscription.unsubscribe()

    async def _rest(self, news: asyncio.Event) -> None:
        """Wait for news, for the end of the log, or until it is time to look again: news can be lost."""
        tasks = [asyncio.create_task(event.wait()) for event in (news, self._closing)]
        try:
            await asyncio.wait(tasks, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def bounds(self, topic: str, partition: int) -> Bounds:
        while True:
            stream = await self._place(topic, partition)
            try:
                state = await self._link.state(stream)
                first, end = await self._ends(stream)
            except ApiError as error:
                await self._gone(error, topic)
                continue
            following = (int(state["last_seq"]) + 1) * _SPAN
            return Bounds(max(first, int(state["first_seq"]) * _SPAN) if end else following, following)

    async def trim(self, topic: str, partition: int, before: int) -> None:
        before = _within(before)
        while True:
            stream = await self._place(topic, partition)
            try:
                await self._trim(stream, before)
            except ApiError as error:
                await self._gone(error, topic)
                continue
            return

    async def _trim(self, stream: str, before: int) -> None:
        while True:
            state = await self._link.state(stream)
            # Never beyond the end: what is appended later is kept.
            before = min(before, (int(state["last_seq"]) + 1) * _SPAN)
            known = await self._link.message(stream, {"last_by_subj": f"{stream}.trim"})
            if before <= (msgspec.msgpack.decode(known.data, type=int) if known else 0):
                return
            expected = {"Nats-Expected-Last-Subject-Sequence": str(known.sequence if known else 0)}
            id_ = self._engine.entropy.identifier()
            try:
                await self._link.publish(f"{stream}.trim", _encode(before), id_, expected)
            except ApiError as error:
                if error.code == _NO_STREAM:
                    raise
                continue  # another client has trimmed meanwhile
            await self._link.api(f"STREAM.PURGE.{stream}", {"seq": max(before // _SPAN, 1)})
            return

    async def delete(self, topic: str) -> None:
        _validate_name(topic)
        known = await self._look_up(topic, fresh=True)
        if known is None:
            return
        check = Check(_TOPICS + topic, known[2])
        with suppress(Conflict):
            await self._engine.replica.ask(DoCommit(Commit((), (check.key,), (check,))))
            await self._drop(known[0], known[1])

    async def close(self) -> None:
        self._closed = True
        self._closing.set()

    # Places

    def _check(self) -> None:
        if self._closed or self._engine.closed:
            raise Unavailable("the log is closed", outcome=Outcome.NOT_APPLIED)

    async def _look_up(self, topic: str, *, fresh: bool = False) -> tuple[str, int, int] | None:
        """Return a topic's uid, its number of partitions, and its version; None when there is none."""
        self._check()
        _validate_name(topic)
        entry = self._engine.replica.machine.get(_TOPICS + topic)
        if entry is None or fresh:
            await self._engine.replica.catch_up()
            self._check()
            entry = self._engine.replica.machine.get(_TOPICS + topic)
        if entry is None:
            return None
        uid, partitions = msgspec.msgpack.decode(entry.value, type=tuple[str, int])
        return uid, partitions, entry.version

    async def _place(self, topic: str, partition: int) -> str:
        known = await self._look_up(topic)
        if known is None:
            raise _no_topic(topic)
        if type(partition) is not int or not 0 <= partition < known[1]:
            raise NotFound(f"the topic {topic!r} has the partitions 0 to {known[1] - 1}, not {partition}")
        return self._stream(known[0], partition)

    def _stream(self, uid: str, partition: int) -> str:
        return f"{self._engine.config.prefix}-log-{uid}-{partition}"

    async def _make(self, uid: str, partition: int) -> None:
        name = self._stream(uid, partition)
        await self._link.make_stream(name, [f"{name}.records", f"{name}.trim"], self._engine.replicas)

    async def _drop(self, uid: str, partitions: int) -> None:
        for partition in range(partitions):
            try:
                await self._link.api(f"STREAM.DELETE.{self._stream(uid, partition)}")
            except ApiError as error:
                if not error.not_found:
                    raise self._link.refusal(error) from error
            await self._link.client.publish(f"{self._stream(uid, partition)}-news", b"")

    async def _gone(self, error: ApiError, topic: str) -> None:
        """Return to look for the topic again if its stream was deleted; otherwise raise what it is."""
        if error.code != _NO_STREAM:
            raise self._link.refusal(error) from error
        if await self._look_up(topic, fresh=True) is None:
            raise _no_topic(topic) from error
        await asyncio.sleep(0.01)

    async def _trimmed(self, stream: str) -> int:
        known = await self._link.message(stream, {"last_by_subj": f"{stream}.trim"})
        return msgspec.msgpack.decode(known.data, type=int) if known else 0

    async def _ends(self, stream: str) -> tuple[int, int]:
        """Return where the trimmed part ends, and the offset beyond the last record kept, or 0."""
        last, trimmed = await asyncio.gather(
            self._link.message(stream, {"last_by_subj": f"{stream}.records"}), self._trimmed(stream)
        )
        if last is None:
            return trimmed, 0
        end = last.sequence * _SPAN + len(_decode(last.data))
        return trimmed, end if end > trimmed else 0


def _records(message: Message, start: int) -> list[Stored]:
    first = message.sequence * _SPAN
    time = _seconds(message.time)
    return [
        Stored(offset, record, time)
        for offset, record in enumerate(_decode(message.data), first)
        if offset >= start
    ]


def _seconds(time: str) -> float:
    # Nanoseconds are more than `fromisoformat` takes.
    head, _, rest = time.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}+00:00").timestamp() + float(f"0.{rest or 0}")


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
