"""Length-prefixed frames: a 32-bit big-endian length, then so many bytes. Pure: bytes in, frames out."""

from __future__ import annotations

from struct import Struct

from ..errors import ProtocolError

__all__ = ["PREFIX", "FrameSplitter"]

PREFIX = Struct(">I")
_unpack = PREFIX.unpack_from
_COPY_BELOW = 16 * 1024


class FrameSplitter:
    """Cuts a stream of bytes into frames.

    `max_bytes` bounds a frame and may be raised while the stream runs (a peer that has not said who it
    is gets a small one). Small frames are copied out; large ones are views of what was received.
    """

    __slots__ = ("_missing", "_partial", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._partial = bytearray()
        self._missing = 0
        """How many bytes the partial frame lacks, or 0 while its length is not known."""

    def feed(self, data: bytes | bytearray) -> list[bytes | bytearray | memoryview]:
        """Return the frames that `data` completes. Raises `ProtocolError` for one that is too large.

        After an error the stream is out of step and nothing more may be fed.
        """
        if self._partial:
            if len(data) < self._missing:
                self._partial += data
                self._missing -= len(data)
                return []
            self._partial += data
            data, self._partial = self._partial, bytearray()
            self._missing = 0
        frames: list[bytes | bytearray | memoryview] = []
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
            frames.append(data[start:end] if size < _COPY_BELOW else memoryview(data)[start:end])
            position = end
        if position < length:
            self._partial += data[position:] if position else data
        return frames

    @property
    def partial(self) -> int:
        """How many bytes of an incomplete frame are held."""
        return len(self._partial)
