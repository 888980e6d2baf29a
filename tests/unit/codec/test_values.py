"""Codecs: bad data of any kind is an invalid argument, and unsupported types are refused at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

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


@dataclass(frozen=True)
class Order:
    quantity: int
    sizes: tuple[int, ...] = ()


class Place(NamedTuple):
    number: int


class Box(msgspec.Struct):
    inside: Any
    order: Order | None = None


WRONG: Any = "three"


@pytest.mark.parametrize(
    ("tp", "value", "where"),
    [
        (int, "three", "Expected `int`, got `str`"),
        (Order, Order(WRONG), r"`int`, got `str` - at `\$\.quantity`"),
        (Order, Order(1, (2, WRONG)), r"at `\$\.sizes\[1\]`"),
        (list[Order], [Order(WRONG)], r"at `\$\[0\]\.quantity`"),
        (Box | None, Box(1, Order(WRONG)), r"at `\$\.order\.quantity`"),
        (Place, Place(WRONG), "Expected `int`, got `str`"),
    ],
)
def test_an_instance_whose_fields_hold_something_else_is_refused(tp: Any, value: Any, where: str) -> None:
    with pytest.raises(InvalidArgument, match=where):
        codec_for(tp).validate(value)


@pytest.mark.parametrize(
    ("tp", "value"),
    [
        (Order, Order(3, (1, 2))),
        (Box | None, Box([1], Order(3))),
        (Place, Place(3)),
        (Model, Model(name="a")),
        (Box, Box(2**70)),  # That it cannot be encoded is for `encode` to say.
    ],
)
def test_an_instance_that_is_valid_is_returned_as_it_is(tp: Any, value: Any) -> None:
    assert codec_for(tp).validate(value) == value


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
