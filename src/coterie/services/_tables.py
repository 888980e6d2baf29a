"""Tables of `coterie.toml` that replace values of the code: for all, for a service, for a method."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Set
from typing import Any, TypeVar

from ..errors import InvalidConfiguration
from ..resilience.overriding import flat, names, overridden
from .spec import ServiceSpec

__all__ = ["check_tables", "layered", "place"]

T = TypeVar("T")


def place(file: str, table: str, name: str = "") -> str:
    """Return where a value stands, for people: `coterie.toml [policy."Shop.buy"]`."""
    quoted = f'"{name}"' if "." in name else name
    return f"{file} [{table}.{quoted}]" if name else f"{file} [{table}]"


def layered(
    value: T, source: Mapping[str, str], layers: Iterable[tuple[str, Mapping[str, Any]]]
) -> tuple[T, dict[str, str]]:
    """Return `value` with fields replaced, layer after layer, and by the name of each part its source.

    `source` has the sources so far; a layer is a place in the file and what stands there.
    """
    sources = dict(source)
    for where, values in layers:
        before = dict(flat(value))
        value = overridden(value, values, where=where)
        given = set(names(values))
        for name, part in flat(value):
            if name in given or name not in sources or before.get(name, value) != part:
                sources[name] = where
    return value, {name: sources[name] for name, _ in flat(value)}


def check_tables(
    file: str, table: str, overrides: Mapping[str, Any], specs: Mapping[str, ServiceSpec], fields: Set[str]
) -> None:
    """Raise `InvalidConfiguration` if a name in a table is no service, no method and none of its `fields`."""
    known = {*specs, *(method.target for spec in specs.values() for method in spec.methods.values())}
    for name, values in overrides.items():
        if name in fields:
            continue
        where = place("", table, name).strip()
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *fields], n=1)
            raise InvalidConfiguration(
                f"{file}: {where} is no service, no method and no part of {_PARTS_OF[table]}",
                hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}",
            )
        if not isinstance(values, Mapping):
            raise InvalidConfiguration(f"{file}: {where} must be a table")


_PARTS_OF = {"policy": "a policy", "admission": "an admission"}
