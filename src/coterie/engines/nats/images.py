"""Images of a state machine, in a stream of their own, cut into messages.

A mark in the machine's stream says where the newest whole image is. What it replaces is purged after the mark
is stored, so that whoever begins finds either the messages or the image.
"""

from __future__ import annotations

import asyncio

import msgspec

from ...errors import Outcome, Unavailable
from .link import Link

__all__ = ["Images"]

_CHUNK_BYTES = 256 * 1024
_AT_ONCE = 8
_ATTEMPTS = 5
_RETRY_S = 0.1


class _Mark(msgspec.Struct, array_like=True, frozen=True):
    """The image of everything up to and including `sequence` is in these messages of the images' stream."""

    sequence: int
    first: int
    count: int


class Images:
    """The images of the stream `name`, in the stream `<name>-images`."""

    def __init__(self, link: Link, name: str, replicas: int, client: str) -> None:
        self._client = client
        self._link = link
        self._name = name
        self._stream = f"{name}-images"
        self._replicas = replicas

    async def open(self) -> None:
        """Make the stream if need be."""
        await self._link.make_stream(self._stream, [f"{self._stream}.>"], self._replicas)

    async def newest(self) -> tuple[int, bytes] | None:
        """Return the sequence and the bytes of the newest image, or None when there is none."""
        for _ in range(_ATTEMPTS):
            marked = await self._link.message(self._name, {"last_by_subj": f"{self._name}.mark"})
            if marked is None:
                return None
            mark = msgspec.msgpack.decode(marked.data, type=_Mark)
            chunks = await self._chunks(mark)
            if chunks is not None:
                return mark.sequence, b"".join(chunks)
            await asyncio.sleep(_RETRY_S)
        raise Unavailable(f"the images of {self._name!r} change too fast", outcome=Outcome.NOT_APPLIED)

    async def _chunks(self, mark: _Mark) -> list[bytes] | None:
        """Return the parts of an image, or None when a newer one has taken its place meanwhile."""
        chunks: list[bytes] = []
        for start in range(mark.first, mark.first + mark.count, _AT_ONCE):
            end = min(start + _AT_ONCE, mark.first + mark.count)
            found = await asyncio.gather(
                *(self._link.message(self._stream, {"seq": sequence}) for sequence in range(start, end))
            )
            for message in found:
                if message is None:
                    return None
                chunks.append(message.data)
        return chunks

    async def put(self, sequence: int, data: bytes) -> None:
        """Keep the image of everything up to and including `sequence`, and let go of what it replaces.

        Two clients may do so at once. Their parts must not mix, so each part expects the one before it; and
        the mark expects the mark that was there when the client began. The second gives up: the image of the
        first serves as well.
        """
        marked = await self._link.message(self._name, {"last_by_subj": f"{self._name}.mark"})
        previous = int((await self._link.state(self._stream))["last_seq"])
        first = previous + 1
        parts = [data[start : start + _CHUNK_BYTES] for start in range(0, len(data), _CHUNK_BYTES)]
        for part in parts:
            expected = {"Nats-Expected-Last-Sequence": str(previous)}
            id_ = f"{self._client}-{previous}"
            previous = await self._link.publish(f"{self._stream}.part", part, id_, expected)
        mark = msgspec.msgpack.encode(_Mark(sequence, first, len(parts)))
        expected = {"Nats-Expected-Last-Subject-Sequence": str(marked.sequence if marked else 0)}
        await self._link.publish(f"{self._name}.mark", mark, f"mark-{self._client}-{sequence}", expected)
        await self._link.api(f"STREAM.PURGE.{self._name}", {"seq": sequence + 1})
        await self._link.api(f"STREAM.PURGE.{self._stream}", {"seq": first})
