"""One client's copy of a state machine, and its way to have operations applied.

An operation is a part of a message of the stream. It has its result when this client has applied that
message, after all that came before. A message may be sent several times: the server drops repetitions by
their id, and the machine does so again. A read waits for a message too, sent after the read began: the
stream's majority has then confirmed that nothing acknowledged before is missing here.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from ...errors import CorruptData, CoterieError, Outcome, Overloaded, TooLarge, Unavailable
from ...ports.entropy import Entropy
from ...ports.store import Change
from ._machine import Envelope, Fence, Machine, Operation
from .consumer import Consumer
from .images import Images
from .link import ApiError, Link

__all__ = ["Replica"]

_log = logging.getLogger("coterie.nats")
_MAX_OPERATIONS = 512
_ENVELOPE_BYTES = 4096
_MAX_IN_FLIGHT = 8
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode


class _Asked:
    __slots__ = ("data", "future", "since")

    def __init__(self, operation: Operation, future: asyncio.Future[int], since: float) -> None:
        self.data = msgspec.Raw(_encode(operation))
        self.future = future
        self.since = since


class _Behind(Exception):
    """The stream has let go of what this copy has not applied: it begins again from an image."""


class Replica:
    """A state machine on the stream `name`, whose messages have the subject `name.log`."""

    def __init__(
        self,
        link: Link,
        name: str,
        *,
        replicas: int,
        entropy: Entropy,
        publish: Callable[[int, tuple[Change, ...]], None],
        lose_track: Callable[[], None],
    ) -> None:
        self.machine: Machine = Machine()
        self.applied: int = 0
        """How many messages this copy has applied."""
        self._link = link
        self._name = name
        self._replicas = replicas
        self._publish_commit = publish
        self._lose_track = lose_track
        self._loop = asyncio.get_running_loop()
        self._id = entropy.identifier()[-12:]
        self._numbers = 0
        self._queue: deque[_Asked] = deque()
        self._queued = asyncio.Event()
        self._pending: dict[str, list[_Asked]] = {}
        self._waiting = 0
        self._slots = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._images = Images(link, name, replicas)
        self._consumer = Consumer(link, name, self._receive)
        self._log_bytes = 0
        self._image_bytes = 0
        self._image_at = 0
        self._imaging = False
        self._applied_at = 0.0
        self._news = asyncio.Event()
        self._closed = False
        self._broken: CoterieError | None = None

    async def open(self) -> None:
        """Make the streams if need be, and catch up with them."""
        try:
            await self._link.make_stream(self._name, [f"{self._name}.>"], self._replicas)
            await self._images.open()
        except ApiError as error:
            raise self._link.refusal(error) from error
        for work in (self._keep(), self._send(), self._give_up(), self._end_leases()):
            self._start(work)
        await self.ask(Fence())

    async def close(self) -> None:
        """End. What is under way ends with `Unavailable`. Idempotent."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail(list(self._queue), Outcome.NOT_APPLIED)
        for asked in list(self._pending.values()):
            self._fail(asked, Outcome.UNKNOWN)
        self._queue.clear()
        self._pending.clear()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Asking

    def ask(self, operation: Operation) -> asyncio.Future[int]:
        """Have an operation applied, and return the future of its result or error."""
        if self._closed:
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)
        if self._broken is not None:
            raise self._broken
        if self._waiting >= self._link.config.max_waiting:
            raise Overloaded(f"{self._waiting} operations wait for {self._link.place}")
        asked = _Asked(operation, self._loop.create_future(), self._loop.time())
        if len(asked.data) > self._max_bytes():
            raise TooLarge(
                f"a commit of {len(asked.data)} bytes; the server takes messages of {self._max_bytes()}",
                hint="raise max_payload of the server, or write less at once",
            )
        self._waiting += 1
        asked.future.add_done_callback(self._answered)
        self._queue.append(asked)
        self._queued.set()
        return asked.future

    def _answered(self, _future: asyncio.Future[int]) -> None:
        self._waiting -= 1

    def _max_bytes(self) -> int:
        return self._link.client.max_payload - _ENVELOPE_BYTES

    async def _send(self) -> None:
        while True:
            await self._queued.wait()
            await self._slots.acquire()
            batch: list[_Asked] = []
            size = 0
            while self._queue and len(batch) < _MAX_OPERATIONS:
                if size + len(self._queue[0].data) > self._max_bytes():
                    break
                asked = self._queue.popleft()
                if not asked.future.done():
                    batch.append(asked)
                    size += len(asked.data)
            if not self._queue:
                self._queued.clear()
            if batch:
                self._numbers += 1
                self._start(self._deliver(f"{self._id}-{self._numbers}", batch))
            else:
                self._slots.release()

    async def _deliver(self, id_: str, batch: list[_Asked]) -> None:
        """Send a batch until it is stored, and wait until it is applied."""
        self._pending[id_] = batch
        body = _encode((id_, [asked.data for asked in batch]))
        try:
            try:
                await self._link.publish(f"{self._name}.log", body, id_)
            finally:
                self._slots.release()
            # Applied by the consumer, usually before the acknowledgement is here.
            limit = self._link.config.operation_timeout_s
            await asyncio.wait([asked.future for asked in batch], timeout=limit)
            self._fail(batch, Outcome.UNKNOWN)
        except ApiError as error:
            self._fail_with(batch, self._link.refusal(error))
        except CoterieError as error:
            self._fail_with(batch, error)
        finally:
            self._pending.pop(id_, None)

    async def _give_up(self) -> None:
        """End what could not be sent in time."""
        limit = self._link.config.operation_timeout_s
        while True:
            await asyncio.sleep(limit / 20)
            while self._queue and self._queue[0].since < self._loop.time() - limit:
                self._fail([self._queue.popleft()], Outcome.NOT_APPLIED)

    def _fail(self, batch: list[_Asked], outcome: Outcome) -> None:
        if self._closed:
            self._fail_with(batch, Unavailable("the engine was closed meanwhile", outcome=outcome))
        else:
            self._fail_with(batch, self._link.unavailable(sent=outcome is Outcome.UNKNOWN))

    @staticmethod
    def _fail_with(batch: list[_Asked], error: CoterieError) -> None:
        for asked in batch:
            if not asked.future.done():
                asked.future.set_exception(_copy(error))

    # Applying

    async def _keep(self) -> None:
        """Follow the stream for ever, beginning with the newest image."""
        behind = True
        while True:
            try:
                if behind:
                    await self._restore()
                behind = False
                await self._consumer.run()
            except _Behind:
                _log.info("the copy of %s begins again with an image", self._name)
                behind = True
                await asyncio.sleep(0.05)
            except (ApiError, Unavailable) as error:
                if self._closed:
                    return
                _log.warning("the copy of %s: %s", self._name, error)
                await asyncio.sleep(0.1)
            except (msgspec.MsgspecError, CorruptData) as error:
                self._broken = CorruptData(f"the stream {self._name!r} holds what is no commit: {error}")
                self._fail_with(list(self._queue), self._broken)
                for batch in list(self._pending.values()):
                    self._fail_with(batch, self._broken)
                return

    async def _restore(self) -> None:
        found = await self._images.newest()
        if found is None:
            self.machine, self._image_at, self._image_bytes = Machine(), 0, 0
        else:
            self._image_at, data = found
            self.machine, self._image_bytes = Machine.from_image(data), len(data)
        self._consumer.position = self._image_at
        self._log_bytes = 0
        self._lose_track()

    async def _receive(self, sequence: int, time_ns: int, subject: str, data: bytes) -> None:
        position = self._consumer.position
        if sequence > position + 1:
            # The stream has no holes but at its beginning, where an image has replaced it.
            raise _Behind
        self._log_bytes += len(data) + 128
        if subject.endswith(".log"):
            envelope = _decode(data)
            results, commits = self.machine.apply(envelope, time_ns)
            self.applied += 1
            self._applied_at = self._loop.time()
            for revision, changes in commits:
                self._publish_commit(revision, changes)
            for asked, result in zip(self._pending.get(envelope.id, ()), results, strict=False):
                if not asked.future.done():
                    if isinstance(result, CoterieError):
                        asked.future.set_exception(result)
                    else:
                        asked.future.set_result(result)
            self._news.set()
            if envelope.id.startswith(self._id):
                self._consider_image(sequence)

    # Images and leases

    def _consider_image(self, sequence: int) -> None:
        """Replace the stream up to `sequence` by an image of the state, if it has grown long.

        Whoever sent the message that made it too long does so; if that client dies, the next one.
        """
        limit = max(self._link.config.min_log_bytes, 2 * self._image_bytes)
        if self._log_bytes > limit and not self._imaging:
            self._imaging = True
            self._start(self._make_image(sequence, self.machine.image()))

    async def _make_image(self, sequence: int, data: bytes) -> None:
        try:
            await self._images.put(sequence, data)
            self._image_at, self._image_bytes, self._log_bytes = sequence, len(data), 0
        except (ApiError, Unavailable) as error:
            _log.warning("no image of %s could be kept: %s", self._name, error)
        finally:
            self._imaging = False

    async def _end_leases(self) -> None:
        """Give the stream a message when a lease is due, so that all copies end it; any client does so."""
        attempt = 0
        while True:
            self._news.clear()
            due = self.machine.next_end_ns
            elapsed_ns = (self._loop.time() - self._applied_at) * 1e9
            rest_s = (due - self.machine.now_ns - elapsed_ns) / 1e9
            if rest_s > 0:
                attempt = 0
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if math.isinf(rest_s) else rest_s + 0.001):
                        await self._news.wait()
                continue
            attempt += 1
            # All clients send the same, and the server keeps one.
            id_ = f"due-{due:.0f}-{attempt}"
            with suppress(ApiError, Unavailable):
                await self._link.publish(f"{self._name}.log", _encode((id_, ())), id_)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(0.05 * attempt, 1.0)):
                    await self._news.wait()


def _copy(error: CoterieError) -> CoterieError:
    return type(error)(error.message, hint=error.hint, outcome=error.outcome)
