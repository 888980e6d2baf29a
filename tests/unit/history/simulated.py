"""Random histories: clients whose operations overlap, on an object that takes effect at one instant."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Any

from coterie.history import History, Interval, Operation

Apply = Callable[[str, Any, Any], tuple[bool, Any]]
"""Of (f, key, argument): whether it happened, and its result."""


def simulate(
    random: Random,
    draw: Callable[[Random], tuple[str, Any, Any]],
    apply: Apply,
    *,
    operations: int,
    processes: int = 3,
    unknown: float = 0.0,
    late: float = 0.5,
) -> History:
    """Run `operations` of `draw` on an object; each takes effect at one instant of its interval.

    With chance `unknown` the client does not learn the outcome: then the effect comes at that
    instant, much later, or (with chance 1 - `late`) never.
    """
    records: list[Operation] = []
    names = itertools.count()
    idle = [next(names) for _ in range(processes)]
    pending: list[tuple[int, str, Any, Any]] = []
    done: list[tuple[int, str, Any, tuple[bool, Any]]] = []
    lost: list[tuple[str, Any, Any]] = []
    left = operations

    def record(process: int, type_: Any, f: str, key: Any, value: Any) -> None:
        records.append(Operation(process=process, type=type_, f=f, key=key, value=value, time=len(records)))

    while left or pending or done:
        choices = [
            name for name, ready in (("begin", left and idle), ("act", pending), ("end", done)) if ready
        ]
        choice = random.choice([*choices, "lost"] if lost else choices)
        if choice == "begin":
            process = idle.pop(random.randrange(len(idle)))
            f, key, argument = draw(random)
            record(process, "invoke", f, key, argument)
            pending.append((process, f, key, argument))
            left -= 1
        elif choice == "act":
            process, f, key, argument = pending.pop(random.randrange(len(pending)))
            if random.random() < unknown:
                if random.random() < late:
                    lost.append((f, key, argument))
                if random.random() < 0.5:
                    record(process, "info", f, key, None)
                idle.append(next(names))
            else:
                done.append((process, f, key, apply(f, key, argument)))
        elif choice == "lost":
            apply(*lost.pop(random.randrange(len(lost))))
        else:
            process, f, key, (happened, result) = done.pop(random.randrange(len(done)))
            record(process, "ok" if happened else "fail", f, key, result)
            idle.append(process)
    return History(records)


class AtomicRegister:
    """Registers by key, with every write counted so that its value can be new."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def apply(self, f: str, key: Any, argument: Any) -> tuple[bool, Any]:
        if f == "read":
            return True, self.values.get(key)
        if f == "cas":
            old, new = argument
            if self.values.get(key) != old:
                return False, None
            self.values[key] = new
            return True, None
        self.values[key] = argument
        return True, None


Step = Callable[[Hashable, Interval], Hashable | None]


def brute_force(intervals: Sequence[Interval], initial: Any, step: Callable[[Any, Interval], Any]) -> bool:
    """Try every subset of the unknown operations in every order. `step` returns a 1-tuple or None."""
    known = [op for op in intervals if op.outcome == "ok"]
    maybe = [op for op in intervals if op.outcome == "unknown"]
    return any(
        _orders(known + list(some), initial, step)
        for size in range(len(maybe) + 1)
        for some in itertools.combinations(maybe, size)
    )


def _orders(ops: list[Interval], state: Any, step: Callable[[Any, Interval], Any]) -> bool:
    if not ops:
        return True
    for op in ops:
        if any(other.end < op.start for other in ops if other is not op):
            continue
        after = step(state, op)
        if after is not None and _orders([other for other in ops if other is not op], after[0], step):
            return True
    return False


def register_step(state: Any, op: Interval) -> tuple[Any] | None:
    """One step of a register."""
    if op.f == "read":
        return (state,) if op.outcome == "unknown" or op.result == state else None
    if op.f == "cas":
        old, new = op.argument
        return (new,) if state == old else None
    return (op.argument,)


def history(*rows: tuple[Any, ...]) -> History:
    """Build a history from (process, type, f, key, value) rows."""
    return History(
        Operation(process=p, type=t, f=f, key=k, value=v, time=index)
        for index, (p, t, f, k, v) in enumerate(rows)
    )


def done(*rows: tuple[Any, ...]) -> History:
    """Build a history of operations one after the other: (process, f, key, argument, result)."""
    records = []
    for p, f, k, argument, result in rows:
        records.append(Operation(process=p, type="invoke", f=f, key=k, value=argument, time=len(records)))
        records.append(Operation(process=p, type="ok", f=f, key=k, value=result, time=len(records)))
    return History(records)
