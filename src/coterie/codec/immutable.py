"""Whether values of a type can change, decided once from the type."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import types
import typing
import uuid
from datetime import date, datetime, time, timedelta
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

__all__ = ["is_immutable"]

_ATOMS = (
    types.NoneType,
    bool,
    int,
    float,
    str,
    bytes,
    datetime,
    date,
    time,
    timedelta,
    decimal.Decimal,
    uuid.UUID,
)


def is_immutable(tp: Any) -> bool:
    """Return whether every value of type `tp` is certainly immutable, all the way down."""
    return _immutable(tp, frozenset())


def _immutable(tp: Any, above: frozenset[int]) -> bool:
    if tp is None or tp in _ATOMS:
        return True
    if id(tp) in above:
        return True  # A recursive type is as immutable as the rest of it.
    above |= {id(tp)}
    origin = get_origin(tp)
    if origin is typing.Annotated:
        return _immutable(get_args(tp)[0], above)
    if origin is typing.Literal:
        return True
    if origin in {tuple, frozenset, typing.Union, types.UnionType}:
        return all(part is Ellipsis or _immutable(part, above) for part in get_args(tp))
    if not isinstance(tp, type):
        return False
    if issubclass(tp, enum.Enum):
        return True
    frozen = (dataclasses.is_dataclass(tp) and tp.__dataclass_params__.frozen) or (  # type: ignore[attr-defined]
        issubclass(tp, msgspec.Struct) and tp.__struct_config__.frozen
    )
    named_tuple = issubclass(tp, tuple) and hasattr(tp, "_fields")
    return bool(frozen or named_tuple) and all(
        _immutable(hint, above) for hint in get_type_hints(tp, include_extras=True).values()
    )
