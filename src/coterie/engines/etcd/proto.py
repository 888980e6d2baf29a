"""The wire format of Protocol Buffers, as far as etcd's messages need it.

Written by hand since the handful of messages needs neither the `protobuf` package, whose generated code is
tied to its version, nor a compiler. See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["fields", "number", "part", "signed"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK = (1 << 64) - 1
_SHORT = tuple(bytes((value,)) for value in range(0x80))
"""The varints of one byte, which nearly all tags and most sizes are."""


def _varint(value: int) -> bytes:
    if 0 <= value < 0x80:
        return _SHORT[value]
    value &= _MASK  # Negative numbers are of 64 bits in two's complement.
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Return a field that holds an int64, a bool or an enum; its number is below 16, as are all of ours."""
    return _SHORT[field << 3] + _varint(value)


def part(field: int, value: bytes) -> bytes:
    """Return a field that holds bytes, text or a message; its number is below 16, as are all of ours."""
    size = len(value)
    length = _SHORT[size] if size < 0x80 else _varint(size)
    return _SHORT[field << 3 | _BYTES] + length + value


def signed(value: int) -> int:
    """Return the int64 that an unsigned varint stands for."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield each field of a message: its number, its value if that is a varint, or its bytes.

    Raises `ValueError` for what is no message.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = _read_varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield field, value, b""
        elif kind == _BYTES:
            size, at = _read_varint(data, at)
            if at + size > end:
                raise ValueError("a field is longer than its message")
            yield field, 0, data[at : at + size]
            at += size
        elif kind in {_FIXED64, _FIXED32}:
            at += 8 if kind == _FIXED64 else 4  # None of ours.
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    try:
        byte = data[at]
        at += 1
        if byte < 0x80:
            return byte, at
        value, shift = byte & 0x7F, 7
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & _MASK, at
            shift += 7
            if shift > 63:
                raise ValueError("a number is longer than 64 bits")
    except IndexError:
        raise ValueError("a message ends within a number") from None
