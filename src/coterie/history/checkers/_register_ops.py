"""Reads, writes and compare-and-sets of one register, as the deciders see them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from ..operations import Interval
from ._common import freeze, refuse

__all__ = ["READS", "SWAPS", "WRITES", "Register", "swap_values", "value_units", "written"]

READS = frozenset({"read", "get", "r"})
WRITES = frozenset({"write", "put", "w", "set"})
SWAPS = frozenset({"cas", "compare-and-set"})
DELETES = frozenset({"delete", "del"})
_PLAIN = frozenset({str, int, float, type(None)})
_EXPECTED = 'f to be read, write, delete (writes null) or cas with the value ["old", "new"]'


@dataclass(slots=True)
class Register:
    """The operations of one register that may have had an effect, sorted by what they do."""

    initial: Hashable
    writers: dict[Hashable, Interval | None] = field(default_factory=dict)
    """Value to the write or compare-and-set of it; None for the initial value."""
    swaps: dict[Hashable, tuple[Hashable, Interval]] = field(default_factory=dict)
    """Of each value that a compare-and-set wrote: the value that it replaced, and the operation."""
    reads: list[Interval] = field(default_factory=list)
    failed: dict[Hashable, Interval] = field(default_factory=dict)
    """Value to a write of it that certainly failed."""
    repeated: bool = False
    """Whether a value is written twice, so that a read does not tell which write it saw."""

    @classmethod
    def gather(cls, group: Iterable[Interval], initial: Hashable) -> Register:
        """Sort the operations of one key. Raises `InvalidArgument` for one that is none of ours."""
        register = cls(initial, {initial: None})
        reads, writers = register.reads, register.writers
        for interval in group:
            if interval.f in READS:
                if interval.outcome == "ok":
                    reads.append(interval)
                continue
            value = interval.argument
            if interval.f not in WRITES or type(value) not in _PLAIN:
                value = written(interval)
            if interval.outcome == "fail":
                register.failed[value] = interval
            elif value in writers:
                register.repeated = True
            else:
                writers[value] = interval
                if interval.f in SWAPS:
                    register.swaps[value] = swap_values(interval)[0], interval
        return register


def written(interval: Interval) -> Hashable:
    """Return the value that a write, delete or compare-and-set leaves behind."""
    if interval.f in WRITES:
        return freeze(interval.argument)
    if interval.f in DELETES:
        return None
    return swap_values(interval)[1]


def swap_values(interval: Interval) -> tuple[Hashable, Hashable]:
    """Return the expected and the new value of a compare-and-set."""
    pair = interval.argument
    if interval.f not in SWAPS or not isinstance(pair, list | tuple) or len(pair) != 2:
        raise refuse(interval, _EXPECTED)
    return freeze(pair[0]), freeze(pair[1])


def value_units(group: Sequence[Interval]) -> list[frozenset[int]]:
    """Return what can be left out of a right history without making it wrong.

    Any single read; and a value together with all that touches it, and with the values that
    compare-and-sets made of it. (Leaving out a write alone would make its reads wrong.)
    """
    units = [frozenset({interval.start}) for interval in group if interval.f in READS]
    made: dict[Hashable, set[Hashable]] = {}
    for interval in group:
        if interval.f in SWAPS:
            old, new = swap_values(interval)
            made.setdefault(old, set()).add(new)
    for value in {written(interval) for interval in group if interval.f not in READS}:
        closure, todo = {value}, [value]
        while todo:
            fresh = made.get(todo.pop(), set()) - closure
            closure |= fresh
            todo.extend(fresh)
        units.append(frozenset(op.start for op in group if _removed(op, closure)))
    return units


def _removed(interval: Interval, values: set[Hashable]) -> bool:
    if interval.f in READS:
        return freeze(interval.result) in values
    return written(interval) in values
