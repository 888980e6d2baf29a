"""Histories as JSON lines: one record a line, the fields of `Operation`, others ignored."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import msgspec

from ..errors import InvalidArgument
from .operations import History, Operation

__all__ = ["decode_history", "encode_history", "merge_histories", "read_history", "write_history"]

_EXPECTED = (
    'expected an object such as {"process": 0, "type": "invoke", "f": "write", "key": "x", "value": 1,'
    ' "time": 1000}; type is invoke, ok, fail or info'
)
_decoder = msgspec.json.Decoder(Operation)
_encoder = msgspec.json.Encoder()


def read_history(path: str | Path) -> History:
    """Read a history from a file of JSON lines; blank lines are skipped.

    Raises `InvalidArgument` that names the file, the line and what was expected.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from error
    return decode_history(data, source=str(path))


def decode_history(data: bytes | str, *, source: str = "history") -> History:
    """Return the history that JSON lines hold. Raises `InvalidArgument` as `read_history` does."""
    if isinstance(data, str):
        data = data.encode()
    try:
        operations = _decoder.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Decoded once more, line by line: the quick way does not say which line is wrong.
        operations = None
    lines = data.splitlines()
    if operations is not None and len(operations) == len(lines):
        return History(operations, source=source)
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    records = [_decode_line(line, number, source) for number, line in numbered]
    return History(records, source=source, lines=[number for number, _ in numbered])


def _decode_line(line: bytes, number: int, source: str) -> Operation:
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{source}, line {number}: {error}", hint=_EXPECTED) from error


def encode_history(operations: Iterable[Operation]) -> bytes:
    """Return the records as JSON lines. Raises `InvalidArgument` for a value that is not JSON."""
    lines = []
    for position, operation in enumerate(operations):
        try:
            lines.append(_encoder.encode(operation))
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"record {position} of the history is not JSON: {error}") from error
    return b"".join(line + b"\n" for line in lines)


def write_history(path: str | Path, operations: Iterable[Operation]) -> None:
    """Write the records to a file as JSON lines."""
    Path(path).write_bytes(encode_history(operations))


def merge_histories(*histories: Iterable[Operation]) -> History:
    """Return one history with all the records sorted by `time`, for clients that recorded apart.

    Their clocks must agree. At equal times invocations come before completions: operations that
    touch at one instant count as concurrent, so that a coarse clock raises no false alarm.
    """
    records = sorted(chain.from_iterable(histories), key=_moment)
    return History(records, source="merged history")


def _moment(operation: Operation) -> tuple[int, bool]:
    return operation.time, operation.type != "invoke"
