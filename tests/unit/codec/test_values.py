"""Codecs: bad data of any kind is an invalid argument, and unsupported types are refused at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.codec import codec_for, is_immutable
from coterie.errors import InvalidArgument, InvalidConfiguration


class Model(pydantic.BaseModel):
    name: str
    sizes: list[int] = []


@pytest.mark.parametrize("tp", [int, Any, list[Any], dict[str, int], Model])
@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_value_or_an_invalid_argument(tp: Any, data: bytes) -> None:
    codec = codec_for(tp)
    for decode in (codec.decode, codec.decode_json):
        with suppress(InvalidArgument):
            decode(data)


@pytest.mark.parametrize("tp", [Any, list[Any], dict[str, Any]])
def test_too_deep_a_value_is_an_invalid_argument(tp: Any) -> None:
    codec = codec_for(tp)
    data = b"\x81\xa1a" * 50_000 if tp == dict[str, Any] else b"\x91" * 50_000
    with pytest.raises(InvalidArgument, match="recursion depth"):
        codec.decode(data)
    with pytest.raises(InvalidArgument, match="recursion depth"):
        codec.decode_json(b'{"a":' * 50_000 if tp == dict[str, Any] else b"[" * 50_000)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "missing required argument|Field required"),
        ({"name": 3}, "valid string at `name`"),
        ({"name": "a", "sizes": ["x"]}, r"valid integer.* at `sizes\.0`"),
        ([], "valid dictionary"),
    ],
)
def test_a_wrong_model_says_where(data: object, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        codec_for(Model).decode(msgspec.msgpack.encode(data))


@pytest.mark.parametrize(
    "tp", [object, Callable[[], int], complex, list[object], dict[str, set[complex]], range]
)
def test_types_that_cannot_be_sent_are_refused(tp: Any) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot be sent or stored"):
        codec_for(tp)


@pytest.mark.parametrize(
    ("tp", "immutable"),
    [
        (int, True),
        (tuple[int, ...], True),
        (tuple[list[int], ...], False),
        (frozenset[str], True),
        (int | None, True),
        (list[int] | None, False),
        (dict[str, int], False),
        (bytearray, False),
        (Model, False),
        (Any, False),
    ],
)
def test_what_cannot_change_is_known(tp: Any, immutable: bool) -> None:
    assert is_immutable(tp) is immutable
