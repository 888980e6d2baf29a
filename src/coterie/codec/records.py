"""The small records that Coterie itself keeps in a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from ..errors import CorruptData

__all__ = ["record_decoder"]

T = TypeVar("T")


def record_decoder(kind: type[T], what: str) -> Callable[[bytes], T]:
    """Return the decoder of records of type `kind`, in MessagePack.

    It raises `CorruptData`, naming `what` the record is of, for bytes that are none.
    """
    decode = msgspec.msgpack.Decoder(kind).decode

    def read(value: bytes) -> T:
        try:
            return decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptData(
                f"the record of {what} is not readable: {error}",
                hint="was it written by a newer version of Coterie, or by another program?",
            ) from error

    return read
