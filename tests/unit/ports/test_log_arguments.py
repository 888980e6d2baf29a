from __future__ import annotations

import pytest

from coterie.errors import InvalidArgument, TooLarge
from coterie.ports import Durability, LogGuarantees, Scope
from coterie.ports.log import Record, validate_limit, validate_records, validate_topic

GIVEN = LogGuarantees(
    engine="test",
    durability=Durability.NONE,
    scope=Scope.PROCESS,
    max_record_bytes=10,
    max_append_records=3,
    max_partitions=4,
)


def test_good_records() -> None:
    validate_records([Record(b"x" * 10), Record(b"x" * 4, "ké", (("a", "é"),)), Record(b"")], GIVEN)


@pytest.mark.parametrize(
    ("records", "error", "message"),
    [
        ([], InvalidArgument, "at least one"),
        ([Record(b"")] * 4, TooLarge, "the limit is 3"),
        ([Record("text")], InvalidArgument, "must be bytes, not str"),  # type: ignore[arg-type]
        ([Record(b"x" * 11)], TooLarge, "11 bytes; the limit is 10"),
        ([Record(b"x" * 8, "ké")], TooLarge, "11 bytes"),
        ([Record(b"x" * 8, "", (("a", "é"),))], TooLarge, "11 bytes"),
        ([Record(b"", "\0")], InvalidArgument, "NUL"),
    ],
)
def test_bad_records(records: list[Record], error: type[InvalidArgument], message: str) -> None:
    with pytest.raises(error, match=message):
        validate_records(records, GIVEN)


def test_topics() -> None:
    validate_topic("t", 1, GIVEN)
    validate_topic("é" * 127, 4, GIVEN)
    for name in ("", "\0", "\ud800"):
        with pytest.raises(InvalidArgument):
            validate_topic(name, 1, GIVEN)
    with pytest.raises(TooLarge):
        validate_topic("é" * 128, 1, GIVEN)
    for partitions in (0, -1, 5, True, 1.0):
        with pytest.raises(InvalidArgument, match="between 1 and 4 partitions"):
            validate_topic("t", partitions, GIVEN)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, 1.0])
def test_bad_limits(limit: object) -> None:
    with pytest.raises(InvalidArgument, match=r"between 1 and 10,000"):
        validate_limit(limit)  # type: ignore[arg-type]
