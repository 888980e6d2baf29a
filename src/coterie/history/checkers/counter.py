"""A counter: each read is the sum of what was added before it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from ...errors import InvalidArgument
from ..operations import Interval, show
from ..verdict import Verdict, inconclusive, passed, violated
from ._common import per_key, refuse, shrink
from ._search import REJECT, Budget, search
from ._sums import Sums

__all__ = ["check_counter"]

MAX_STEPS = 300_000
_EXPECTED = "f to be add or subtract, with an integer (default 1), or read with an integer as its result"
_SIGN = {"add": 1, "increment": 1, "subtract": -1, "decrement": -1}


def check_counter(
    intervals: Iterable[Interval], *, initial: int = 0, exact: bool = True, max_steps: int = MAX_STEPS
) -> Verdict:
    """Decide whether each key is a counter.

    First each read by itself: it must lie between what was certainly added before it and what may
    have been, in O(n log n). Then, if `exact`, a search of at most `max_steps` steps for one order of
    all operations, as for a register; if that is not enough, the verdict is inconclusive. With
    `exact=False` the bounds are all that is promised, as for a counter that converges.
    """
    if type(initial) is not int:
        raise InvalidArgument(f"initial is {initial!r}; expected an integer")
    budget = Budget(max_steps)
    return per_key(intervals, lambda group: _decide(group, initial, exact, budget))


def _decide(group: list[Interval], initial: int, exact: bool, budget: Budget) -> Verdict:
    changes = [(op, _change(op)) for op in group if op.f != "read"]
    reads = [op for op in group if op.f == "read" and op.outcome == "ok"]
    sums = Sums(changes)
    for read in reads:
        if type(read.result) is not int:
            raise refuse(read, _EXPECTED)
        low, high = (initial + bound for bound in sums.bounds(read))
        if not low <= read.result <= high:
            could = f"{low}" if low == high else f"from {low} to {high}"
            sentence = (
                f"process {read.process} read {show(read.result)}, but what was added until then is {could}"
            )
            added = [op for op, _ in changes if op.outcome != "fail" and op.start < read.end]
            return violated(
                "lost-update" if read.result < low else "unadded-amount", sentence, [*added, read]
            )
    if not exact:
        return passed()
    present = [op for op in group if op.outcome == "ok" or (op.outcome == "unknown" and op.f != "read")]
    found = _ordered(present, initial, budget)
    if found is None:
        return inconclusive("each read is within its bounds, but the search for one order took all its steps")
    if found:
        return passed()
    witness = _few_reads(present, initial)
    return violated(
        "not-linearizable", "each read is possible by itself, but no order is right for all", witness
    )


def _change(op: Interval) -> int:
    amount = 1 if op.argument is None else op.argument
    if op.f not in _SIGN or type(amount) is not int:
        raise refuse(op, _EXPECTED)
    return _SIGN[op.f] * amount


def _ordered(group: list[Interval], initial: int, budget: Budget) -> bool | None:
    def step(state: Hashable, op: Interval) -> Hashable:
        if op.f == "read":
            return state if op.result == state else REJECT
        return state + _change(op)  # type: ignore[operator]

    return search(group, initial, step, reads=lambda op: op.f == "read", budget=budget)


def _few_reads(group: list[Interval], initial: int) -> list[Interval]:
    """Leave out each read without which there is still no order; every addition may matter."""

    def still(ops: list[Interval]) -> bool:
        return _ordered(ops, initial, Budget(20_000)) is False

    def single_reads(ops: Iterable[Interval]) -> list[frozenset[int]]:
        return [frozenset({op.start}) for op in ops if op.f == "read"]

    smallest = shrink(group, single_reads, still)
    last = max(op.end for op in smallest if op.f == "read")
    return [op for op in smallest if op.start < last]
