"""Length-prefixed frames: a 32-bit big-endian length, then so many bytes. Pure: bytes in, frames out."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from ..errors import ProtocolError

__all__ = ["PREFIX", "FrameSplitter"]

PREFIX = Struct(">I")
_unpack = PREFIX.unpack_from
_COPY_BELOW = 16 * 1024


class FrameSplitter:
    """Cuts a stream of bytes into frames.

    `max_bytes` bounds a frame and may change at any time, also between two frames of one chunk: a peer
    that has not said who it is gets a small one. Small frames are copied out of what was received,
    large ones are views of it.
    """

    __slots__ = ("_missing", "_partial", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes: int = max_bytes
        self._partial = bytearray()
        self._missing = 0
        """How many bytes the partial frame lacks, or 0 while its length is not known."""

    def feed(self, data: bytes | bytearray) -> Iterator[bytes | bytearray | memoryview]:
        """Yield the frames that `data` completes. Raises `ProtocolError` for one that is too large.

        Each frame is cut when it is asked for, and the iterator must be used up before the next
        `feed`. After an error the stream is out of step and nothing more may be fed.
        """
        if self._partial:
            self._partial += data
            if len(data) < self._missing:
                self._missing -= len(data)
                return
            data, self._partial = self._partial, bytearray()
            self._missing = 0
        position, length = 0, len(data)
        while length - position >= 4:
            (size,) = _unpack(data, position)
            if size > self.max_bytes:
                raise ProtocolError(f"a frame of {size} bytes; the limit is {self.max_bytes}")
            start = position + 4
            end = start + size
            if end > length:
                self._missing = end - length
                break
            position = end
            yield data[start:end] if size < _COPY_BELOW else memoryview(data)[start:end]
        if position < length:
            self._partial += memoryview(data)[position:]

    @property
    def partial(self) -> int:
        """How many bytes of an incomplete frame are held."""
        return len(self._partial)
