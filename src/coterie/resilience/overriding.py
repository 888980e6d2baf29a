"""Replaces single values of a frozen dataclass by those of a file, and says what is wrong with them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from ..errors import InvalidConfiguration

__all__ = ["flat", "names", "overridden"]

T = TypeVar("T")

_NOT_IN_A_FILE = frozenset({"also"})
"""Classes cannot be written in a file."""


def overridden(value: T, changes: Mapping[str, Any], *, where: str) -> T:
    """Return `value`, a dataclass, with fields replaced by `changes` as they stand in a file.

    Nested tables replace single fields: `{"retry": {"attempts": 5}}` leaves the other fields of the retry
    alone, and switches it on if it was off. The text `off` stands for None, which TOML has not.
    Raises `InvalidConfiguration` that begins with `where`, the place in the file.
    """
    try:
        return _overridden(value, changes)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{where}: {error.message}", hint=error.hint) from None


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name (`retry.attempts`) and the value of each part of a dataclass, nested ones included."""
    for each in dataclasses.fields(value):
        part = getattr(value, each.name)
        if dataclasses.is_dataclass(part):
            yield from flat(part, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, part


def names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the name of each value in tables of a file, as `flat` has them."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _overridden(value: T, changes: Mapping[str, Any], prefix: str = "") -> T:
    types = get_type_hints(type(value))
    converted = {}
    for name, change in changes.items():
        _check_name(name, types, prefix)
        now = getattr(value, name)
        if isinstance(change, Mapping) and dataclasses.is_dataclass(now):
            converted[name] = _overridden(now, change, f"{prefix}{name}.")
        elif change == "off" and isinstance(None, types[name]):
            converted[name] = None
        else:
            converted[name] = _converted(change, types[name], prefix + name)
    try:
        return dataclasses.replace(value, **converted)  # type: ignore[type-var]
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{prefix[:-1]}: {error.message}" if prefix else error.message) from None


def _converted(change: Any, tp: Any, name: str) -> Any:
    part: Any = next((each for each in (tp, *get_args(tp)) if dataclasses.is_dataclass(each)), None)
    if isinstance(change, Mapping) and part is not None:
        # A part that was off. msgspec would not mind a name that it does not know.
        types = get_type_hints(part)
        for given in change:
            _check_name(given, types, f"{name}.")
        if all(field.name in change or _has_default(field) for field in dataclasses.fields(part)):
            needed = {field.name for field in dataclasses.fields(part) if not _has_default(field)}
            begun = {key: _converted(change[key], types[key], f"{name}.{key}") for key in needed}
            return _overridden(part(**begun), change, f"{name}.")
    try:
        return msgspec.convert(change, tp)
    except msgspec.ValidationError as error:
        problem = str(error)[:1].lower() + str(error)[1:]
        problem = problem.replace("null", "'off'").replace("`object`", "a table").replace("object", "table")
        raise InvalidConfiguration(f"{name}: {problem}") from None


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _check_name(name: str, types: Mapping[str, Any], prefix: str) -> None:
    there_are = [each for each in types if each not in _NOT_IN_A_FILE]
    if name not in there_are:
        near = difflib.get_close_matches(name, there_are, n=1)
        raise InvalidConfiguration(
            f"there is no {prefix + name!r} to set",
            hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(there_are)}",
        )
