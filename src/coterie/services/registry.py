"""How errors cross the wire: as their declared type, or as `RemoteError`.

Only classes that are registered here are ever built from what a peer sent; nothing is imported or
unpickled by name.
"""

from __future__ import annotations

import dataclasses
import inspect
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import msgspec

from .. import errors as _errors
from ..codec import UNENCODABLE, Codec, codec_for, encode_hook
from ..errors import CoterieError, InvalidConfiguration, Outcome, RemoteError
from ..ports.wire import Failure

__all__ = ["ErrorRegistry"]

_BUILT_IN: dict[str, type[CoterieError]] = {
    cls.code: cls
    for cls in vars(_errors).values()
    if isinstance(cls, type) and issubclass(cls, CoterieError) and cls is not RemoteError
}
_MAX_TRACEBACK = 16_000
_encode = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode
_decode_name = msgspec.msgpack.Decoder(str).decode
_decode_seconds = msgspec.msgpack.Decoder(Annotated[float, msgspec.Meta(ge=0, le=86400)]).decode
_decode_state = msgspec.msgpack.Decoder(tuple[list[Any], dict[str, Any]]).decode


@dataclass(frozen=True, slots=True)
class _Declared:
    name: str
    cls: type[Exception]
    status: int
    fields: Codec[Any] | None
    """For an exception that is a dataclass: a Struct of its fields."""


class ErrorRegistry:
    """The exceptions that a program declares, by name and by class."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Declared] = {}
        self._by_class: dict[type[BaseException], _Declared] = {}

    def register(self, cls: type[Exception], *, status: int = 400, name: str | None = None) -> None:
        """Declare `cls`; `status` is its HTTP status, `name` its name on the wire."""
        given: object = cls  # Decorators are put on anything.
        if not (isinstance(given, type) and issubclass(given, Exception)):
            raise InvalidConfiguration(f"a declared error must be a subclass of Exception, not {cls!r}")
        if not 400 <= status <= 599:
            raise InvalidConfiguration(
                f"the status of {cls.__name__} must be between 400 and 599, not {status}"
            )
        name = name or cls.__name__
        if name in self._by_name or name in _BUILT_IN or name == RemoteError.code:
            raise InvalidConfiguration(f"an error called {name!r} is declared already")
        if cls in self._by_class:
            known = self._by_class[cls].name
            raise InvalidConfiguration(f"the error {cls.__name__} is declared already, as {known!r}")
        declared = _Declared(name, cls, status, _fields_of(cls))
        self._by_name[name] = self._by_class[cls] = declared

    def find(self, error: BaseException) -> tuple[str, int] | None:
        """Return the declared name and HTTP status of an exception's type, or None."""
        declared = self._lookup(type(error))
        return None if declared is None else (declared.name, declared.status)

    def declared(self) -> Iterator[tuple[str, type[Exception], int]]:
        """Return name, class and HTTP status of each declared exception."""
        return ((d.name, d.cls, d.status) for d in self._by_name.values())

    def _lookup(self, cls: type[BaseException]) -> _Declared | None:
        for base in cls.__mro__:
            if base in self._by_class:
                return self._by_class[base]
        return None

    def to_failure(self, error: BaseException) -> Failure:
        """Return `error` as it crosses the wire."""
        if isinstance(error, Failure):
            return error
        declared = self._lookup(type(error))
        if isinstance(error, CoterieError):
            message, hint, outcome = _text(error.message), _text(error.hint or ""), error.outcome
        else:
            message, hint, outcome = _text(str(error)), "", Outcome.UNKNOWN
        detail, trace = b"", ""
        if declared is not None:
            code, detail = declared.name, _detail(declared, error)
        elif isinstance(error, RemoteError):  # From further down the chain: passed on as it came.
            code, detail, trace = error.code, _encode(error.type_name), error.remote_traceback
        elif isinstance(error, CoterieError):
            code = error.code
            detail = b"" if error.retry_after_s is None else _encode(error.retry_after_s)
        else:
            name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
            code, detail = RemoteError.code, _encode(name)
            trace = _text("".join(traceback.format_exception(error))[-_MAX_TRACEBACK:])
        return Failure(code, message, hint=hint, outcome=outcome, detail=detail, traceback=trace)

    def from_failure(self, failure: Failure) -> Exception:
        """Return the error that `failure` stands for."""
        declared = self._by_name.get(failure.code)
        if declared is not None:
            rebuilt = _rebuild(declared, failure)
            if rebuilt is not None:
                return rebuilt
        elif failure.code in _BUILT_IN:
            cls = _BUILT_IN[failure.code]
            error = cls(failure.message, hint=failure.hint or None, outcome=failure.outcome)
            error.retry_after_s = _retry_after(failure)
            return error
        return RemoteError(
            failure.message,
            type_name=_remote_name(failure),
            remote_traceback=failure.traceback,
            hint=failure.hint or None,
            outcome=failure.outcome,
        )

    def as_received(self, error: Exception) -> Exception:
        """Return what a caller elsewhere would get for `error`, for callers in the same process."""
        if isinstance(error, CoterieError) or self._lookup(type(error)) is not None:
            return error
        return self.from_failure(self.to_failure(error))


def _fields_of(cls: type[Exception]) -> Codec[Any] | None:
    if not dataclasses.is_dataclass(cls):
        return None
    hints = get_type_hints(cls)
    fields = [(field.name, hints[field.name]) for field in dataclasses.fields(cls) if field.init]
    return codec_for(msgspec.defstruct(f"{cls.__name__}_fields", fields, array_like=True))


def _text(text: str) -> str:
    """Return `text` with what UTF-8 has no code for, such as undecodable file names, escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _detail(declared: _Declared, error: BaseException) -> bytes:
    try:
        if declared.fields is not None:
            names = [field.name for field in msgspec.structs.fields(declared.fields.type)]
            return _encode([getattr(error, name) for name in names])
        return _encode((error.args, _attributes(error)))
    except UNENCODABLE:
        # What cannot be sent is sent as text, so that the type still arrives.
        return _encode(((_text(str(error)),), {}))


def _attributes(error: BaseException) -> dict[str, Any]:
    """Return the public attributes of an exception that can be sent."""
    sent = {}
    for name, value in getattr(error, "__dict__", {}).items():
        if not name.startswith("_"):
            try:
                _encode((name, value))
            except UNENCODABLE:
                continue
            sent[name] = value
    return sent


def _rebuild(declared: _Declared, failure: Failure) -> Exception | None:
    cls = declared.cls
    try:
        if declared.fields is not None:
            return cls(*msgspec.structs.astuple(declared.fields.decode(failure.detail)))
        if issubclass(cls, CoterieError) and cls.__init__ is CoterieError.__init__:
            return cls(failure.message, hint=failure.hint or None, outcome=failure.outcome)
        arguments, attributes = _decode_state(failure.detail)
        # Where its `args` are not what it was made from, the type, the `args` and the attributes are kept.
        error = cls(*arguments) if _accepts(cls, len(arguments)) else cls.__new__(cls)
        error.args = tuple(arguments)
        for name, value in attributes.items():
            if not name.startswith("_"):
                setattr(error, name, value)
    except Exception:  # noqa: BLE001 - the program's own code runs here
        return None  # The other side declares it differently: better a RemoteError than a wrong one.
    return error


def _accepts(cls: type[Exception], count: int) -> bool:
    try:
        inspect.signature(cls).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _retry_after(failure: Failure) -> float | None:
    if not failure.detail:
        return None
    try:
        seconds: float = _decode_seconds(failure.detail)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return seconds


def _remote_name(failure: Failure) -> str:
    if failure.code != RemoteError.code:
        return failure.code
    try:
        return _decode_name(failure.detail)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
