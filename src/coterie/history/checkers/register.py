"""Registers and maps: each key reads what was last written to it, as if at one instant."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from ..operations import NEVER, Interval
from ..verdict import Verdict, inconclusive, passed, violated
from ._common import freeze, per_key, shrink
from ._distinct import decide_distinct
from ._register_ops import READS, SWAPS, Register, swap_values, value_units, written
from ._search import REJECT, Budget, search

__all__ = ["check_map", "check_register"]

MAX_STEPS = 500_000
SHRINK_STEPS = 300_000
LONG = 50
ANY = object()
"""The state of a register of which nothing is known."""


def check_register(
    intervals: Iterable[Interval], *, initial: Any = None, max_steps: int = MAX_STEPS
) -> Verdict:
    """Decide whether each key is a linearizable register that begins as `initial`.

    `f` is `read`, `write` or `cas` with the value `[old, new]`. A key whose written values are
    distinct is decided in O(n log n); any other by a search of at most `max_steps` steps in all,
    and the verdict is inconclusive if that is not enough.
    """
    frozen = freeze(initial)
    budget = Budget(max_steps)
    return per_key(intervals, lambda group: _decide(group, frozen, budget))


def check_map(intervals: Iterable[Interval], *, max_steps: int = MAX_STEPS) -> Verdict:
    """Decide whether each key of a map is linearizable: a register that begins as null (absent).

    `f` is `get`, `put`, `delete` or `cas`. Scans of several keys are not part of this model.
    """
    return check_register(intervals, max_steps=max_steps)


def _decide(group: list[Interval], initial: Hashable, budget: Budget) -> Verdict:
    register = Register.gather(group, initial)
    if not register.repeated:
        return decide_distinct(group, register)
    present = _relevant(group)
    found = _linearizable(present, initial, budget)
    if found:
        return passed()
    if found is None:
        return _gave_up(group)
    return _explain(present, register)


def _relevant(group: Sequence[Interval]) -> list[Interval]:
    """Leave out what cannot matter: failures, unknown reads, and unknown writes that nobody saw."""
    seen = {freeze(op.result) for op in group if op.f in READS and op.outcome == "ok"}
    seen |= {swap_values(op)[0] for op in group if op.f in SWAPS and op.outcome != "fail"}
    return [
        op
        for op in group
        if op.outcome == "ok" or (op.outcome == "unknown" and op.f not in READS and written(op) in seen)
    ]


def _linearizable(group: Sequence[Interval], initial: Hashable, budget: Budget) -> bool | None:
    # Comparable values are made once for each operation, not at each of the many steps.
    frozen = {op.start: _frozen(op) for op in group}

    def step(state: Hashable, op: Interval) -> Hashable:
        needs, value, expected = frozen[op.start]
        return value if not needs or state == expected or state is ANY else REJECT

    return search(group, initial, step, reads=_reads, budget=budget)


def _frozen(op: Interval) -> tuple[bool, Hashable, Hashable]:
    """Return whether the operation needs a value to be there, the value that it leaves, and the needed."""
    if op.f in READS:
        value = freeze(op.result)
        return True, value, value
    if op.f in SWAPS:
        old, new = swap_values(op)
        return True, new, old
    return False, written(op), None


def _reads(op: Interval) -> bool:
    return op.f in READS


def _explain(group: list[Interval], register: Register) -> Verdict:
    initial = register.initial
    values = set(register.writers)
    for read in register.reads:
        value = freeze(read.result)
        if value not in values and value in register.failed:
            source = register.failed[value]
            return violated(
                "aborted-read", f"{read} saw a value whose {source} did not happen", [source, read]
            )
        if value not in values:
            return violated("unwritten-value", f"{read} saw a value that nobody wrote", [read])
    total = Budget(SHRINK_STEPS)
    before = ""

    def still(ops: list[Interval], begin: Hashable = initial) -> bool:
        # A try that takes long is given up, so that a few of those do not leave the rest untried.
        steps = min(total.steps, SHRINK_STEPS // 10)
        budget = Budget(steps)
        found = _linearizable(ops, begin, budget)
        total.steps -= steps - max(0, budget.steps)
        return found is False

    # Writes of a value that others write again cannot be left out one by one. But most of a long
    # history can, if some stretch of it is wrong whatever the value was before.
    window = next((ops for ops in _stretches(group) if still(ops, ANY)), None)
    if window is not None:
        initial = ANY
        before = ", whatever was there before"
    prefix = _shortest_prefix(group, still) if window is None else window
    smallest = shrink(prefix, value_units, lambda ops: still(ops, initial))
    kept = {op.start for op in smallest}
    witness = [op for op in group if op.start in kept]
    sentence = f"no order of {_these(witness)} is right for a register{before}"
    return violated("not-linearizable", sentence, witness)


def _these(witness: list[Interval]) -> str:
    return ", ".join(map(str, witness)) if len(witness) <= 4 else f"these {len(witness)} operations"


def _shortest_prefix(group: list[Interval], wrong: Callable[[list[Interval]], bool]) -> list[Interval]:
    """Return the operations until the first completion at which no order was left."""
    ends = sorted(op.end for op in group if op.outcome == "ok")
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if wrong(_until(group, ends[middle])):
            high = middle
        else:
            low = middle + 1
    prefix = _until(group, ends[low])
    return prefix if wrong(prefix) else group


def _stretches(group: list[Interval]) -> Iterator[list[Interval]]:
    """Return overlapping stretches of a long history, each with all that was under way in it."""
    under_way: list[Interval] = []
    for first in range(0, len(group) if len(group) > LONG else 0, LONG // 2):
        begin = group[first].start
        end = group[first + LONG].start if first + LONG < len(group) else NEVER
        under_way = [op for op in under_way if op.end > begin]
        yield _since(_until([*under_way, *group[first : first + LONG]], end), begin)
        under_way += group[first : first + LONG // 2]


def _since(group: list[Interval], begin: int) -> list[Interval]:
    """Return what may have taken effect after `begin`: a write that was under way then, or may not have."""
    window = []
    for op in group:
        if op.start >= begin:
            window.append(op)
        elif op.end > begin and op.f not in READS:
            window.append(replace(op, outcome="unknown", end=NEVER))
    return window


def _until(group: list[Interval], end: int) -> list[Interval]:
    """Return what was known at `end`: what completed later is unknown, and its reads are left out."""
    prefix = [
        op if op.end <= end else replace(op, outcome="unknown", end=NEVER) for op in group if op.start < end
    ]
    return [op for op in prefix if op.outcome == "ok" or op.f not in READS]


def _gave_up(group: Sequence[Interval]) -> Verdict:
    key = group[0].key
    which = "the register" if key is None else f"key {key!r}"
    return inconclusive(
        f"the search for an order of the {len(group)} operations of {which} took all its steps;"
        " write distinct values, which needs no search, or allow more (max_steps)"
    )
