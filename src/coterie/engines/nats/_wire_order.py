"""The order of what an end of a session says: numbered, cut into what fits, and put together again. Pure.

NATS keeps the order of a subject, but may lose some of it. So everything has a number, a message that was
cut as well as its parts have, and what does not come with the next number ends the session: nothing is
ever put together around a gap. Parts of one message follow each other with nothing between, so that a peer
has no more than one message half here. Time is an argument, in seconds of any steady clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from ...errors import Outcome, ProtocolError, Unavailable
from ._wire_messages import PART_HEAD_BYTES, Batch, Message, Part, decode_large

__all__ = ["Incoming", "Outgoing"]


class _Cut:
    """A message that leaves in parts."""

    __slots__ = ("frame", "position")

    def __init__(self, frame: bytes) -> None:
        self.frame = memoryview(frame)
        self.position = 0

    def next(self, most: int) -> Part:
        """Return the next part, of `most` bytes if there are so many."""
        start = self.position
        self.position = min(start + most, len(self.frame))
        return Part(len(self.frame) - self.position, self.frame[start : self.position])


class Outgoing:
    """What one end has said, and what of it waits to leave."""

    def __init__(self, frame_bytes: int) -> None:
        self.numbered: int = 0
        """Messages and parts that were given a number."""
        self.left: int = 0
        """Those that have left."""
        self.waiting_bytes: int = 0
        self._frame_bytes = frame_bytes
        self._part_bytes = frame_bytes - PART_HEAD_BYTES
        self._queue: deque[bytes | _Cut] = deque()

    def add(self, frame: bytes) -> int:
        """Let an encoded message wait to leave. Return its number, or that of its last part."""
        size = len(frame)
        self.waiting_bytes += size
        if size <= self._frame_bytes:
            self._queue.append(frame)
            self.numbered += 1
        else:
            self._queue.append(_Cut(frame))
            self.numbered += -(-size // self._part_bytes)
        return self.numbered

    def take(self) -> list[msgspec.Raw | Part]:
        """Return what leaves next, as much as fits one message of NATS."""
        queue, room, taken = self._queue, self._frame_bytes, list[msgspec.Raw | Part]()
        while queue:
            head = queue[0]
            if isinstance(head, _Cut):
                if taken:
                    break  # A part fills a message of its own, or closes what was cut.
                part = head.next(self._part_bytes)
                self.waiting_bytes -= len(part.body)
                taken.append(part)
                if not part.rest:
                    queue.popleft()
                break
            if len(head) > room:
                break
            queue.popleft()
            room -= len(head)
            self.waiting_bytes -= len(head)
            taken.append(msgspec.Raw(head))
        self.left += len(taken)
        return taken

    def clear(self) -> None:
        """Forget what has not left."""
        self._queue.clear()
        self.waiting_bytes = 0


class Incoming:
    """What one end has heard. Holds at most one message of which parts are missing, of bounded size."""

    def __init__(self, max_message_bytes: int) -> None:
        self.taken: int = 0
        """How many messages and parts were taken."""
        self.began_s: float = 0.0
        """When the message that was taken last began to arrive."""
        self.heard_s: float = 0.0
        """When its last part came."""
        self._max_message_bytes = max_message_bytes
        self._half = bytearray()
        self._rest = 0

    @property
    def partial(self) -> bool:
        """Whether parts of a message are missing."""
        return self._rest > 0

    @property
    def held_bytes(self) -> int:
        """How much of it is here."""
        return len(self._half)

    def take(self, batch: Batch, now_s: float) -> Iterator[Message]:
        """Yield the messages that `batch` completes.

        Raises `Unavailable` when something was lost before it, with nothing of it taken, and
        `ProtocolError` for what no well-behaved peer says. Nothing may be taken after either.
        """
        if batch.first != self.taken + 1:
            what = f"messages were lost on the way: {batch.first} came after {self.taken}"
            raise Unavailable(what, outcome=Outcome.UNKNOWN)
        for message in batch.messages:
            self.taken += 1
            if isinstance(message, Part):
                whole = self._put(message, now_s)
                if whole is not None:
                    yield whole
            else:
                if self._rest:
                    raise ProtocolError(f"a {type(message).__name__} came between the parts of a message")
                self.began_s = now_s
                yield message

    def clear(self) -> None:
        """Forget the message of which parts are missing."""
        self._half = bytearray()
        self._rest = 0

    def _put(self, part: Part, now_s: float) -> Message | None:
        size = len(part.body)
        if not self._rest:
            if size + part.rest > self._max_message_bytes:
                raise ProtocolError(
                    f"a message of {size + part.rest} bytes; the limit is {self._max_message_bytes}"
                )
            self.began_s = now_s
        elif size + part.rest != self._rest:
            raise ProtocolError(f"a part leaves {part.rest} of {self._rest} bytes, and has {size}")
        if not size:
            raise ProtocolError("a part of a message is empty")
        self.heard_s = now_s
        self._half += part.body
        self._rest = part.rest
        if self._rest:
            return None
        # The message refers to this buffer, and keeps it for as long as it is needed.
        whole, self._half = self._half, bytearray()
        try:
            return decode_large(whole)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"a malformed message in parts: {error}") from error
