"""Typed values to bytes and back: msgpack on the wire and in stores, JSON for people.

Dataclasses, msgspec Structs, the standard types that msgspec knows (numbers, text, bytes, dates,
UUID, Decimal, enums, collections, unions, TypedDict, NamedTuple) and, when it is installed, pydantic
models, which may stand anywhere inside the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, cast

import msgspec

from ..errors import InvalidArgument, InvalidConfiguration

__all__ = [
    "UNENCODABLE",
    "Buffer",
    "Codec",
    "codec_for",
    "decode_hook",
    "encode_hook",
    "schema_hook",
    "type_name",
]

T = TypeVar("T")

UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What `Codec.encode` raises for a value that is of the type and cannot be encoded, such as 2**70."""

_BAD_DATA = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Buffer = bytes | bytearray | memoryview | msgspec.Raw


def _pydantic_base() -> type[Any] | None:
    # Looked up, never imported: a program that has a pydantic model has imported pydantic.
    module = sys.modules.get("pydantic")
    return None if module is None else cast("type[Any]", module.BaseModel)


def _is_model(cls: object) -> bool:
    base = _pydantic_base()
    return base is not None and isinstance(cls, type) and issubclass(cls, base)


def encode_hook(value: Any) -> Any:
    """Turn a pydantic model into what msgspec can encode; raise `TypeError` for anything else."""
    if _is_model(type(value)):
        return value.model_dump(by_alias=True)
    raise TypeError(f"a value of type {type_name(type(value))} cannot be sent or stored")


def decode_hook(cls: type[Any], value: Any) -> Any:
    """Build a pydantic model from decoded data; errors become msgspec's, with the path."""
    if _is_model(cls):
        if isinstance(value, cls):
            return value
        try:
            return cls.model_validate(value)
        except ValueError as error:
            details = getattr(error, "errors", None)
            if details is None:
                raise
            first = details()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{first['msg']} at `{path}`") from None
    raise TypeError(f"{type_name(cls)} cannot be received")


def schema_hook(cls: type[Any]) -> dict[str, Any]:
    """Return the JSON schema of a pydantic model, with its definitions inline."""
    if _is_model(cls):
        return cast("dict[str, Any]", cls.model_json_schema())
    raise NotImplementedError(f"{type_name(cls)} has no JSON schema")


def type_name(tp: object) -> str:
    """Return `tp` as a reader would write it."""
    if isinstance(tp, type) and not getattr(tp, "__args__", None):
        return tp.__qualname__
    return str(tp).replace("typing.", "")


class Codec(Generic[T]):
    """Encodes and decodes one type. Made once a declaration by `codec_for`, used for every value."""

    __slots__ = ("_from_json", "_from_msgpack", "_has_objects", "encode", "type")

    encode: Callable[[T], bytes]
    """Return the msgpack encoding of a value; it is not checked against the type."""

    def __init__(self, tp: Any) -> None:
        self.type: Any = tp
        self._has_objects = _look_into(tp)
        self.encode = _ENCODER.encode
        self._from_msgpack = msgspec.msgpack.Decoder(tp, dec_hook=decode_hook).decode
        self._from_json = msgspec.json.Decoder(tp, dec_hook=decode_hook).decode

    def decode(self, data: Buffer) -> T:
        """Return the value that msgpack `data` holds; raise `InvalidArgument` when it is of another type."""
        try:
            value: T = self._from_msgpack(data)
            return value
        except _BAD_DATA as error:
            raise InvalidArgument(f"not a valid {type_name(self.type)}: {error}") from error

    def encode_json(self, value: T) -> bytes:
        """Return the JSON encoding of a value."""
        return _JSON_ENCODER.encode(value)

    def decode_json(self, data: Buffer | str) -> T:
        """Return the value that JSON `data` holds; raise `InvalidArgument` when it is of another type."""
        try:
            value: T = self._from_json(data)
            return value
        except _BAD_DATA as error:
            raise InvalidArgument(f"not a valid {type_name(self.type)}: {error}") from error

    def validate(self, value: object) -> T:
        """Return `value` as the codec's type; raise `InvalidArgument` unless `decode` would return it.

        What cannot be encoded at all is left to `encode`.
        """
        try:
            checked = cast("T", msgspec.convert(value, self.type, dec_hook=decode_hook))
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"not a valid {type_name(self.type)}: {error}") from error
        if self._has_objects:
            # An instance of a class was taken as it is, whatever its fields hold.
            try:
                encoded = self.encode(checked)
            except UNENCODABLE:
                return checked
            self.decode(encoded)
        return checked


_ENCODER = msgspec.msgpack.Encoder(enc_hook=encode_hook)
_JSON_ENCODER = msgspec.json.Encoder(enc_hook=encode_hook)


def codec_for(tp: Any) -> Codec[Any]:
    """Return a codec of type `tp`; raise `InvalidConfiguration` when values of it cannot be encoded."""
    return Codec(tp)


def _look_into(tp: Any) -> bool:
    """Return whether values of `tp` may hold instances of classes; raise if they cannot be encoded."""
    try:
        info = msgspec.inspect.type_info(tp)
    except (TypeError, NameError) as error:
        raise InvalidConfiguration(
            f"values of type {type_name(tp)} cannot be sent or stored: {error}"
        ) from error
    has_objects = False
    for part in _parts(info, set()):
        if isinstance(part, msgspec.inspect.CustomType) and not _is_model(part.cls):
            raise InvalidConfiguration(
                f"values of type {type_name(part.cls)} cannot be sent or stored",
                hint="use a dataclass, a msgspec.Struct, a pydantic model or a standard type",
            )
        has_objects = has_objects or isinstance(part, _OBJECTS)
    return has_objects


_OBJECTS = (
    msgspec.inspect.CustomType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.NamedTupleType,
    msgspec.inspect.StructType,
)


def _parts(info: Any, seen: set[int]) -> Iterable[Any]:
    """Yield every type that stands anywhere inside of `info`, and itself."""
    if isinstance(info, (tuple, list)):
        for item in info:
            yield from _parts(item, seen)
        return
    if not isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)) or id(info) in seen:
        return
    seen.add(id(info))
    yield info
    for name in info.__struct_fields__:
        if name not in {"cls", "default", "default_factory"}:
            yield from _parts(getattr(info, name), seen)
