"""Causal consistency, and the four session guarantees that it consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ...errors import InvalidArgument
from ..operations import Interval
from ..verdict import Verdict, passed, violated
from ._causality import Causality
from ._common import freeze
from ._register_ops import WRITES

__all__ = ["GUARANTEES", "check_causal"]

GUARANTEES = (
    "read-your-writes",
    "monotonic-reads",
    "monotonic-writes",
    "writes-follow-reads",
    "causal-order",
)


def check_causal(
    intervals: Iterable[Interval], *, initial: Any = None, guarantees: Sequence[str] = GUARANTEES
) -> Verdict:
    """Decide whether no read shows an effect without its cause. A process is a session.

    `f` is `read` or `write` with distinct values per key. A read is wrong if it returns a value that
    was overwritten by a write in its causal past: then the first of these that fits is broken (Terry and
    others, Session guarantees for weakly consistent replicated data, PDIS 1994):

    - `read-your-writes`: its own session wrote the newer value;
    - `monotonic-reads`: its own session had read the newer value;
    - `monotonic-writes`: it had read a write that another session made after the newer value;
    - `writes-follow-reads`: it had read a write that another session made after reading the newer value;
    - `causal-order`: a longer chain leads to it.

    `guarantees` names those that are promised. All together are causal consistency (CC in Bouajjani,
    Enea, Guerraoui and Hamza, On verifying causal consistency, POPL 2017, whose bad patterns these are);
    the stronger causal memory and causal convergence are not decided. O(n * sessions).
    """
    unknown = set(guarantees) - set(GUARANTEES)
    if isinstance(guarantees, str) or unknown:
        raise InvalidArgument(
            f"guarantees is {guarantees!r}", hint=f"expected a list of {', '.join(GUARANTEES)}"
        )
    order = Causality(intervals, freeze(initial))
    if order.problem is not None:
        return order.problem
    for read, seen in order.source.items():
        if any(newer != seen and order.precedes(seen, newer) for newer in order.last_writes(read)):
            verdict = _name(order, read, guarantees)
            if not verdict.ok:
                return verdict
    return passed()


def _name(order: Causality, read: int, guarantees: Sequence[str]) -> Verdict:
    """Return the first promised guarantee that a read of an overwritten value breaks."""
    seen = order.source[read]
    for guarantee in GUARANTEES:
        if guarantee not in guarantees:
            continue
        for newer, by in _NEWER[guarantee](order, read):
            if newer != seen and order.precedes(seen, newer):
                return _explain(order, read, newer, by, guarantee)
    return passed()


_Found = Iterator[tuple[int, list[int]]]
"""Writes to the key of a read that its session should know of, each with the operations that tell it."""


def _earlier(order: Causality, number: int) -> list[int]:
    """Return what came before an operation in its session, the latest first."""
    mine = order.session.get(order.ops[number].process, [])
    return [other for other in reversed(mine) if other < number]


def _own_writes(order: Causality, read: int) -> _Found:
    for other in _earlier(order, read):
        if order.ops[other].f in WRITES and order.keys[other] == order.keys[read]:
            yield other, []


def _own_reads(order: Causality, read: int) -> _Found:
    for other in _earlier(order, read):
        source = order.source.get(other)
        if source is not None and order.keys[other] == order.keys[read]:
            yield source, [other]


def _writes_before_what_was_read(order: Causality, read: int) -> _Found:
    for other in _earlier(order, read):
        source = order.source.get(other)
        if source is not None:
            for newer, _ in _own_writes_to(order, source, read):
                yield newer, [source, other]


def _reads_before_what_was_read(order: Causality, read: int) -> _Found:
    for other in _earlier(order, read):
        source = order.source.get(other)
        if source is not None:
            for before in _earlier(order, source):
                newer = order.source.get(before)
                if newer is not None and order.keys[before] == order.keys[read]:
                    yield newer, [before, source, other]


def _own_writes_to(order: Causality, number: int, read: int) -> _Found:
    for other in _earlier(order, number):
        if order.ops[other].f in WRITES and order.keys[other] == order.keys[read]:
            yield other, []
            return  # an earlier one can be no newer


def _any(order: Causality, read: int) -> _Found:
    for newer in order.last_writes(read):
        yield newer, []


_NEWER: dict[str, Callable[[Causality, int], _Found]] = {
    "read-your-writes": _own_writes,
    "monotonic-reads": _own_reads,
    "monotonic-writes": _writes_before_what_was_read,
    "writes-follow-reads": _reads_before_what_was_read,
    "causal-order": _any,
}
_SAYS = {
    "read-your-writes": "although it had itself done the later {newer}",
    "monotonic-reads": "although it had read what the later {newer} left",
    "monotonic-writes": "although it had seen a write that came after {newer} in that process",
    "writes-follow-reads": "although it had seen a write whose process had read what {newer} left",
    "causal-order": "although {newer} is later and among its causes",
}


def _explain(order: Causality, read: int, newer: int, by: list[int], guarantee: str) -> Verdict:
    ops = order.ops
    says = _SAYS[guarantee].format(newer=ops[newer])
    witness = [
        ops[newer],
        *(ops[number] for number in by),
        ops[read],
        *order.chain(order.source[read], newer),
    ]
    if guarantee == "causal-order":
        witness += order.chain(newer, read)
    what = "the initial value" if order.source[read] is None else "an overwritten value"
    return violated(guarantee, f"{ops[read]} returned {what}, {says}", witness)
