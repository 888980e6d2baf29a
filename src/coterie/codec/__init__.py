"""Typed values to bytes and back, and the frames that carry them."""

from .immutable import is_immutable
from .records import record_decoder
from .values import (
    UNENCODABLE,
    Buffer,
    Codec,
    codec_for,
    decode_hook,
    encode_hook,
    schema_hook,
    type_name,
)

__all__ = [
    "UNENCODABLE",
    "Buffer",
    "Codec",
    "codec_for",
    "decode_hook",
    "encode_hook",
    "is_immutable",
    "record_decoder",
    "schema_hook",
    "type_name",
]
