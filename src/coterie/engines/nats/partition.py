"""One partition of a topic: a stream whose messages each hold the records of one append or of several.

The records of a message have the offsets from its sequence times 1024 on, so an append is all there or not at
all. Appends that are made while others are on their way share the next message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain

import msgspec

from ...errors import CoterieError, Outcome, Overloaded, TooLarge, Unavailable
from ...ports.entropy import Entropy
from ...ports.log import Record, Segment, Stored
from ..common.rounds import Rounds
from ..common.shared import fail
from .link import ApiError, Link
from .link import Stored as Message

__all__ = ["SPAN", "Partition"]

SPAN = 1024
"""How many offsets a message has, at least as many as records."""
_MAX_IN_FLIGHT = 2
_ENVELOPE_BYTES = 1024
_AT_ONCE = 64
_MAX_MESSAGES = 1000
_MAX_SEGMENT_BYTES = 4 * 1024 * 1024
_PAUSE_S = 0.05

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[list[Record]]).decode


class _Append:
    __slots__ = ("count", "data", "future", "since")

    def __init__(self, records: Sequence[Record], future: asyncio.Future[int], since: float) -> None:
        self.data = msgspec.Raw(_encode(records))
        self.count = len(records)
        self.future = future
        """Becomes the offset of the last record."""
        self.since = since


class Partition:
    """A client's view of the stream `stream`."""

    def __init__(
        self,
        link: Link,
        stream: str,
        *,
        replicas: int,
        entropy: Entropy,
        still_there: Callable[[], Awaitable[object]],
    ) -> None:
        self.stream: str = stream
        self._still_there = still_there
        self._closed = False
        self._link = link
        self._replicas = replicas
        self._id = entropy.identifier()
        self._number = 0
        """How many messages were sent; after the id it is what the server knows a message by."""
        self._queue: deque[_Append] = deque()
        self._queued = 0
        self._sending: dict[asyncio.Task[None], list[_Append]] = {}
        self._floor = 0
        """The newest sequence that this client knows of: who tells of less is behind."""
        self._density = 1.0
        """About how many records a message has."""
        self._loop = asyncio.get_running_loop()
        self._states = Rounds(self._state)

    # Appending

    async def append(self, records: Sequence[Record]) -> int:
        """Append `records` and return the offset of the last. Raises ApiError if there is no such stream."""
        append = _Append(records, self._loop.create_future(), self._loop.time())
        room = self._link.client.max_payload - _ENVELOPE_BYTES
        if len(append.data) > room:
            raise TooLarge(
                f"{len(append.data)} bytes in one append; the server takes {room}",
                hint="raise max_payload of the server, or append less at once",
            )
        if len(self._queue) >= self._link.config.max_waiting:
            raise Overloaded(f"{len(self._queue)} appends wait for {self._link.place}")
        self._queue.append(append)
        self._send()
        return await append.future

    def _send(self) -> None:
        while self._queue and len(self._sending) < _MAX_IN_FLIGHT:
            appends = self._take()
            if appends:
                task = asyncio.create_task(self._deliver(appends))
                self._sending[task] = appends
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        if not self._closed:
            self._send()

    def _take(self) -> list[_Append]:
        appends: list[_Append] = []
        count, size, room = 0, 0, self._link.client.max_payload - _ENVELOPE_BYTES
        while self._queue:
            first = self._queue[0]
            if appends and (count + first.count > SPAN or size + len(first.data) > room):
                break
            self._queue.popleft()
            if not first.future.done():
                appends.append(first)
                count, size = count + first.count, size + len(first.data)
        return appends

    async def _deliver(self, appends: list[_Append]) -> None:
        self._number += 1
        body = _encode([append.data for append in appends])
        deadline = appends[0].since + self._link.config.operation_timeout_s
        try:
            sequence = await self._link.publish(
                f"{self.stream}.records",
                body,
                f"{self._id}-{self._number}",
                deadline=deadline,
                nobody=self._still_there,
            )
        except (ApiError, CoterieError) as error:
            _fail(appends, error)
            return
        self._floor = max(self._floor, sequence)
        offset = sequence * SPAN - 1
        for append in appends:
            offset += append.count
            if not append.future.done():
                append.future.set_result(offset)

    async def close(self) -> None:
        """End appends under way with `Unavailable`."""
        self._closed = True
        sending = dict(self._sending)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        for appends in sending.values():
            _fail(appends, Unavailable("the engine was closed meanwhile"))
        _fail(self._queue, Unavailable("the engine was closed meanwhile", outcome=Outcome.NOT_APPLIED))
        self._queue.clear()
        await self._states.close(Unavailable("the engine was closed meanwhile"))

    # Reading

    async def read(self, start: int, limit: int) -> tuple[Segment, bool]:
        """Return up to `limit` records from `start` on, and whether the first is of the oldest message kept.

        Of several members one may not have heard of a purge, or of an append: their leader is asked for both.
        """
        state = await self.state() if self._replicas > 1 else None
        last, oldest = (None, 0) if state is None else (int(state["last_seq"]), int(state["first_seq"]))
        start = max(start, oldest * SPAN)
        records: list[Stored] = []
        following, size, ended = max(start // SPAN, 1), 0, False
        while len(records) < limit and size < _MAX_SEGMENT_BYTES and not ended:
            wanted = min(int((limit - len(records)) / self._density) + 1, _MAX_MESSAGES)
            messages = await self._messages(following, wanted, last)
            if not messages:
                break
            before = len(records)
            for message in messages:
                size += len(message.data)
                records += _records(message, start)
            self._density = max(1.0, (len(records) - before) / len(messages))
            following = messages[-1].sequence + 1
            self._floor = max(self._floor, following - 1)
            ended = last is None and len(messages) < wanted
        del records[limit:]
        at_oldest = bool(records) and records[0].offset // SPAN == oldest
        return Segment(tuple(records), records[-1].offset + 1 if records else start), at_oldest

    async def _messages(self, sequence: int, count: int, last: int | None) -> list[Message]:
        """Return messages from `sequence` on, without a gap; what a member lacks the leader has.

        `last` is the leader's newest, or None if only one server has the stream.
        """
        if last is not None and sequence > last:
            return []
        found = await self._link.some(self.stream, sequence, count, _MAX_SEGMENT_BYTES)
        kept: list[Message] = []
        for message in found or ():
            if kept and message.sequence != kept[-1].sequence + 1:
                break
            kept.append(message)
        if kept or (last is None and found is not None):
            return kept
        last = await self.last() if last is None else last
        end = min(sequence + min(count, _AT_ONCE), last + 1)
        asked = (self._link.message(self.stream, {"seq": number}) for number in range(sequence, end))
        return [message for message in await asyncio.gather(*asked) if message is not None]

    async def last(self) -> int:
        """Return the newest sequence by the stream's leader."""
        return int((await self.state())["last_seq"])

    async def state(self) -> dict[str, int]:
        """Return the stream's state by its leader, and not by one who was replaced and lags behind."""
        return await self._states.join()

    async def _state(self) -> dict[str, int]:
        deadline = self._loop.time() + self._link.config.operation_timeout_s
        while True:
            state = await self._link.state(self.stream)
            if int(state["last_seq"]) >= self._floor:
                self._floor = int(state["last_seq"])
                return state
            if self._loop.time() > deadline:
                raise self._link.unavailable(sent=False)
            await asyncio.sleep(_PAUSE_S)

    async def end(self) -> int:
        """Return the offset beyond the last record that is kept, or 0 if none is."""
        state = await self.state()
        if not state["messages"]:
            return 0
        message = await self._link.message(self.stream, {"seq": state["last_seq"]})
        return 0 if message is None else message.sequence * SPAN + _count(message)

    async def whole(self, offset: int) -> int:
        """Return `offset`, or the next message's first if no record of its own message is at or beyond it."""
        sequence, within = divmod(offset, SPAN)
        if not within:
            return offset
        message = await self._link.message(self.stream, {"seq": sequence})
        count = 0 if message is None else _count(message)
        return offset if within < count else (sequence + 1) * SPAN


def _count(message: Message) -> int:
    return sum(map(len, _decode(message.data)))


def _records(message: Message, start: int) -> list[Stored]:
    first = message.sequence * SPAN
    time = _seconds(message.time)
    return [
        Stored(offset, record, time)
        for offset, record in enumerate(chain.from_iterable(_decode(message.data)), first)
        if offset >= start
    ]


def _seconds(time: str) -> float:
    # Nanoseconds are more than `fromisoformat` takes.
    head, _, rest = time.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}+00:00").timestamp() + float(f"0.{rest or 0}")


def _fail(appends: Iterable[_Append], error: ApiError | CoterieError) -> None:
    for append in appends:
        each = ApiError(error.code, error.text) if isinstance(error, ApiError) else error
        fail((append.future,), each)
