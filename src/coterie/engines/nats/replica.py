"""One client's copy of a state machine, and its way to have operations applied.

An operation is a part of a message of the stream. It has its result when this client has applied that
message, after all that came before. A message may be sent several times: the server drops repetitions by
their id, and the machine does so again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from ...errors import CorruptData, CoterieError, Outcome, Overloaded, TooLarge, Unavailable
from ...ports.entropy import Entropy
from ...ports.store import Change
from ..common.rounds import Rounds
from ..common.shared import copy_of, fail, heard
from ._deadlines import Deadlines
from ._machine import Barrier, End, Envelope, Machine, Operation
from .consumer import Consumer
from .images import Images
from .link import ApiError, Link

__all__ = ["Replica"]

_log = logging.getLogger("coterie.nats")
_MAX_OPERATIONS = 512
_ENVELOPE_BYTES = 4096
_MAX_IN_FLIGHT = 8
_RETRY_S = 0.1
_NOWHERE = -1
"""Where a copy is that has no state yet: no message comes next."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode


class _Asked:
    __slots__ = ("data", "future", "since")

    def __init__(self, operation: Operation, future: asyncio.Future[int], since: float) -> None:
        self.data = msgspec.Raw(_encode(operation))
        self.future = future
        self.since = since


class _Message:
    """Operations that go together, and what is told when they are applied."""

    __slots__ = ("applied", "asked")

    def __init__(self, asked: list[_Asked], applied: asyncio.Future[None]) -> None:
        self.asked = asked
        self.applied = applied


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
        self._number = 0
        self._queue: deque[_Asked] = deque()
        self._sending_soon = False
        self._pending: dict[int, _Message] = {}
        self._waiting = 0
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._images = Images(link, name, replicas, self._id)
        self._consumer = Consumer(link, name, self._receive)
        self._log_bytes = 0
        self._image_bytes = 0
        self._imaging = False
        self._deadlines = Deadlines()
        self._ends = 0
        """How many messages asked for the ends of leases."""
        self._renewed = asyncio.Event()
        self._looks = Rounds(self._look)
        self._moved = asyncio.Event()
        self._closed = False
        self._broken: CoterieError | None = None

    async def open(self) -> None:
        """Make the streams if need be, and catch up with them."""
        try:
            await self._link.make_stream(self._name, [f"{self._name}.>"], self._replicas)
            await self._images.open()
        except ApiError as error:
            raise self._link.refusal(error) from error
        for work in (self._keep(), self._give_up(), self._end_leases()):
            self._start(work)
        await self.ask(Barrier())

    async def close(self) -> None:
        """End. What is under way ends with `Unavailable`. Idempotent."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail(list(self._queue), Outcome.NOT_APPLIED)
        for message in list(self._pending.values()):
            self._fail(message.asked, Outcome.UNKNOWN)
        await self._looks.close(Unavailable("the engine was closed meanwhile"))
        self._queue.clear()
        self._pending.clear()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _check(self) -> None:
        if self._closed:
            raise Unavailable("the engine is closed", outcome=Outcome.NOT_APPLIED)
        if self._broken is not None:
            raise copy_of(self._broken)

    # Asking

    def ask(self, operation: Operation) -> asyncio.Future[int]:
        """Have an operation applied, and return the future of its result or error."""
        self._check()
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
        self._send()
        return asked.future

    def _answered(self, future: asyncio.Future[int]) -> None:
        self._waiting -= 1
        heard(future)

    def _max_bytes(self) -> int:
        return self._link.client.max_payload - _ENVELOPE_BYTES

    def _send(self) -> None:
        """Send what waits, unless enough is on its way: then it goes together, a little later."""
        idle = not self._sending_soon and self._in_flight < _MAX_IN_FLIGHT
        if self._queue and idle and not self._closed:
            # It begins in the next turn of the loop: all that is asked in this one goes together.
            self._sending_soon = True
            self._start(self._deliver())

    def _take(self) -> list[_Asked]:
        """Take from the queue what one message holds."""
        asked: list[_Asked] = []
        size, room = 0, self._max_bytes()
        while self._queue and len(asked) < _MAX_OPERATIONS:
            first = self._queue[0]
            if asked and size + len(first.data) > room:
                break
            self._queue.popleft()
            if not first.future.done():
                asked.append(first)
                size += len(first.data)
        return asked

    async def _deliver(self) -> None:
        """Send a message of what waits until it is stored, and wait until it is applied."""
        self._sending_soon = False
        asked = self._take()
        if not asked:
            return
        self._number += 1
        number = self._number
        self._pending[number] = message = _Message(asked, self._loop.create_future())
        self._in_flight += 1
        self._send()
        deadline = asked[0].since + self._link.config.operation_timeout_s
        oldest = next(iter(self._pending))
        body = _encode((self._id, number, oldest, [one.data for one in asked]))
        subject = f"{self._name}.log"
        try:
            try:
                sequence = await self._link.publish(subject, body, f"{self._id}-{number}", deadline=deadline)
            finally:
                self._in_flight -= 1
                self._send()
            if sequence == self._consumer.position + 1:
                # Nothing came between. Otherwise, or if it was quicker, the consumer brings it.
                self._consumer.receive(sequence, subject, body)
            if not message.applied.done():
                async with asyncio.timeout_at(deadline):
                    await message.applied
        except TimeoutError:
            self._fail(message.asked, Outcome.UNKNOWN)
        except ApiError as error:
            self._fail_with(message.asked, self._link.refusal(error))
        except CoterieError as error:
            self._fail_with(message.asked, error)
        finally:
            self._pending.pop(number, None)

    async def _give_up(self) -> None:
        """End what could not be sent in time."""
        limit = self._link.config.operation_timeout_s
        while True:
            await asyncio.sleep(limit / 20)
            while self._queue and self._queue[0].since < self._loop.time() - limit:
                self._fail([self._queue.popleft()], Outcome.NOT_APPLIED)

    def _fail(self, asked: list[_Asked], outcome: Outcome) -> None:
        if self._closed:
            self._fail_with(asked, Unavailable("the engine was closed meanwhile", outcome=outcome))
        else:
            self._fail_with(asked, self._link.unavailable(sent=outcome is Outcome.UNKNOWN))

    @staticmethod
    def _fail_with(batch: list[_Asked], error: CoterieError) -> None:
        fail((asked.future for asked in batch), error)

    # Reading

    def catch_up(self) -> asyncio.Future[None] | asyncio.Future[int]:
        """Return what is done when this copy holds all that was acknowledged, to anyone, before the call.

        With several replicas only a majority can say so, and only by storing something: a leader that was
        replaced may not know it yet. Where one server has the stream, it is asked how long the stream is.
        """
        self._check()
        return self.ask(Barrier()) if self._replicas > 1 else self._looks.join()

    async def _look(self) -> None:
        deadline = self._loop.time() + self._link.config.operation_timeout_s
        try:
            info = await self._link.api(f"STREAM.INFO.{self._name}")
        except ApiError as error:
            raise self._link.refusal(error) from error
        if info["config"]["num_replicas"] > 1:
            self._replicas = info["config"]["num_replicas"]
            await self.ask(Barrier())
            return
        while self._consumer.position < int(info["state"]["last_seq"]):
            self._check()
            self._moved.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._moved.wait()
            except TimeoutError:
                raise self._link.unavailable(sent=True) from None

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
                await asyncio.sleep(_RETRY_S)
            except (ApiError, Unavailable) as error:
                if self._closed:
                    return
                _log.warning("the copy of %s: %s", self._name, error)
                await asyncio.sleep(_RETRY_S)
            except (msgspec.MsgspecError, CorruptData) as error:
                self._break(CorruptData(f"the stream {self._name!r} holds what is no commit: {error}"))
                return

    def _break(self, error: CoterieError) -> None:
        """Answer nothing any more."""
        self._broken = error
        self._moved.set()
        self._lose_track()
        self._fail_with(list(self._queue), error)
        for message in list(self._pending.values()):
            self._fail_with(message.asked, error)

    async def _restore(self) -> None:
        self._consumer.position = _NOWHERE
        found = await self._images.newest()
        self.machine, position, self._image_bytes = Machine(), 0, 0
        if found is not None:
            position, data = found
            self.machine, self._image_bytes = Machine.from_image(data), len(data)
        self._deadlines = Deadlines()
        self._count_from_now(list(self.machine.leases))
        self._consumer.position = position
        self._log_bytes = 0
        self._lose_track()

    def _receive(self, sequence: int, subject: str, data: bytes) -> None:
        if sequence > self._consumer.position + 1:
            # The stream has no holes but at its beginning, where an image has replaced it.
            raise _Behind
        self._log_bytes += len(data) + 128
        self._moved.set()
        if not subject.endswith(".log"):
            return
        envelope = _decode(data)
        results, commits, renewed = self.machine.apply(envelope)
        self.applied += 1
        if renewed:
            self._count_from_now(renewed)
        for revision, changes in commits:
            self._publish_commit(revision, changes)
        if envelope.client == self._id:
            if results and (message := self._pending.get(envelope.number)) is not None:
                self._settle(message, results)
            self._consider_image(sequence)

    @staticmethod
    def _settle(message: _Message, results: list[int | CoterieError]) -> None:
        for asked, result in zip(message.asked, results, strict=True):
            if asked.future.done():
                continue
            if isinstance(result, CoterieError):
                asked.future.set_exception(result)
            else:
                asked.future.set_result(result)
        if not message.applied.done():
            message.applied.set_result(None)

    # Images and leases

    def _consider_image(self, sequence: int) -> None:
        """Replace the stream up to `sequence` by an image of the state, if it has grown long.

        Whoever sent the message that made it too long does so; if that client dies, the next one.
        """
        limit = max(self._link.config.min_log_bytes, 2 * self._image_bytes)
        if self._log_bytes > limit and not self._imaging:
            self._imaging = True
            # The message is applied already, so the image holds it.
            self._start(self._make_image(sequence, self.machine.image()))

    async def _make_image(self, sequence: int, data: bytes) -> None:
        try:
            await self._images.put(sequence, data)
            self._image_bytes, self._log_bytes = len(data), 0
        except (ApiError, CoterieError) as error:
            _log.info("no image of %s was kept: %s", self._name, error)
        finally:
            self._imaging = False

    def _count_from_now(self, leases: list[int]) -> None:
        now = self._loop.time()
        for lease in leases:
            known = self.machine.leases.get(lease)
            if known is not None:
                self._deadlines.renewed(lease, known.renewals, now + known.ttl_ms / 1000)
        self._renewed.set()

    async def _end_leases(self) -> None:
        """Ask for the end of leases whose time is over by this client's clock."""
        while True:
            self._renewed.clear()
            at = self._deadlines.next()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(at):
                    await self._renewed.wait()
            due = list(self._deadlines.pop_due(self._loop.time()))
            if due:
                await self._end(due)

    async def _end(self, due: list[tuple[int, int]]) -> None:
        """Have leases ended that are still there and were not renewed."""
        for start in range(0, len(due), _MAX_OPERATIONS):
            part = due[start : start + _MAX_OPERATIONS]
            body = _encode((self._id, 0, 0, [End(lease, renewals) for lease, renewals in part]))
            # All clients ask for the same, and where it is one lease the server keeps one of the messages.
            # Several are never quite the same, so each message has an id of its own: one that the server took
            # for a repetition of an earlier one would end nothing.
            self._ends += 1
            id_ = "end-{}-{}".format(*part[0]) if len(part) == 1 else f"{self._id}-end-{self._ends}"
            try:
                await self._link.publish(f"{self._name}.log", body, id_)
            except (ApiError, CoterieError) as error:
                _log.info("leases of %s could not be ended: %s", self._name, error)
                self._count_from_now([lease for lease, _ in part])
                await asyncio.sleep(_RETRY_S)
