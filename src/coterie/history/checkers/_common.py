"""What the checkers share: comparable values, the split by key, and the shrinking of witnesses."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from ...errors import InvalidArgument
from ..operations import Interval, show
from ..verdict import Verdict, passed

__all__ = ["by_key", "freeze", "per_key", "refuse", "shrink"]

_PLAIN = frozenset({str, int, float, type(None)})


def freeze(value: Any) -> Hashable:
    """Return a hashable stand-in for a JSON value: equal for equal values, else different.

    JSON's `true` and `1` differ although Python's are equal.
    """
    if type(value) in _PLAIN:
        return value  # type: ignore[no-any-return]
    if isinstance(value, list | tuple):
        return ("list", *map(freeze, value))
    if isinstance(value, dict):
        return ("dict", frozenset((key, freeze(item)) for key, item in value.items()))
    try:
        hash(value)
    except TypeError:
        raise InvalidArgument(f"the value {value!r} is not JSON") from None
    return (type(value).__name__, value)  # so that True is not 1


def by_key(intervals: Iterable[Interval]) -> dict[Hashable, list[Interval]]:
    """Split the operations by their keys."""
    split: dict[Hashable, list[Interval]] = {}
    for interval in intervals:
        key = interval.key
        frozen = key if type(key) in _PLAIN else freeze(key)
        group = split.get(frozen)
        if group is None:
            split[frozen] = [interval]
        else:
            group.append(interval)
    return split


def per_key(intervals: Iterable[Interval], decide: Callable[[list[Interval]], Verdict]) -> Verdict:
    """Decide each key by itself: the first violation, else the first that is inconclusive, else ok."""
    unsure: Verdict | None = None
    for group in by_key(intervals).values():
        verdict = decide(group)
        if verdict.status == "violated":
            return verdict
        if verdict.status == "inconclusive" and unsure is None:
            unsure = verdict
    return passed() if unsure is None else unsure


def refuse(interval: Interval, expected: str) -> InvalidArgument:
    """Return the error for an operation that the model does not know or cannot read."""
    where = "" if interval.key is None else f" of key {show(interval.key)}"
    return InvalidArgument(
        f"record {interval.start + 1}: {interval.f!r}{where} with value {show(interval.argument)}"
        + (f" and result {show(interval.result)}" if interval.outcome == "ok" else "")
        + " does not fit the model",
        hint=f"expected {expected}",
    )


def shrink(
    witness: Sequence[Interval],
    units: Callable[[Sequence[Interval]], Iterable[frozenset[int]]],
    still: Callable[[list[Interval]], bool],
    *,
    attempts: int = 500,
) -> list[Interval]:
    """Remove units of a witness while it stays violated, until none can be removed.

    `units` names sets of operations, by `start`, whose removal cannot break a history that was
    right; so what remains still proves that the whole is wrong. At most `attempts` removals are tried.
    """
    remaining = list(witness)
    progress = True
    while progress and attempts > 0:
        progress = False
        for unit in sorted(units(remaining), key=lambda unit: (-len(unit), sorted(unit))):
            if attempts <= 0:
                break
            smaller = [interval for interval in remaining if interval.start not in unit]
            if len(smaller) == len(remaining):
                continue
            attempts -= 1
            if smaller and still(smaller):
                remaining = smaller
                progress = True
    return remaining
