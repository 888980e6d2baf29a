"""Linearizability of a register whose written values are distinct, in O(n log n).

When no value is written twice, each read tells which write it saw. A write and its reads must then
take effect without another write in between, so they are one block, and the question is whether the
blocks can be ordered: Gibbons and Korach, Testing shared memories, SIAM J. Comput. 26(4), 1997. A
compare-and-set joins the block of the value that it replaced, for nothing can come between those
either. A write with an unknown outcome happened if its value was seen, and can be left out if not;
so unknown outcomes cost nothing, where a search must try each both ways.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ..operations import Interval, show
from ..verdict import Verdict, passed, violated
from ._blocks import conflict
from ._common import freeze, shrink
from ._register_ops import READS, SWAPS, Register, swap_values, value_units, written

__all__ = ["decide_distinct"]

_PLAIN = frozenset({str, int, float, type(None)})


def decide_distinct(group: Sequence[Interval], register: Register) -> Verdict:
    """Decide the operations of one key, gathered in `register`, in which no value is repeated."""
    blocks = _Blocks(register)
    verdict = blocks.build()
    if verdict is None:
        verdict = blocks.join_swaps()
    if verdict is not None:
        return verdict
    found = conflict(blocks.zones())
    if found is None:
        return passed()
    clash = blocks.trim(group, found[0]), blocks.trim(group, found[1])
    return _explain(clash, register.initial, "reordered-reads" if found[2] else "stale-read")


class _Blocks:
    """`first_end` and `last_start` of each value that was seen or certainly written."""

    def __init__(self, register: Register) -> None:
        self.register = register
        self.first: dict[Hashable, int] = {}
        self.last: dict[Hashable, int] = {}
        self.chains: dict[Hashable, list[Hashable]] = {}
        self.joined: set[Hashable] = set()

    def build(self) -> Verdict | None:
        """Gather the blocks; return a read of what was never written, or not yet."""
        first, last, writers = self.first, self.last, self.register.writers
        for read in self.register.reads:
            value = read.result
            if type(value) not in _PLAIN:
                value = freeze(value)
            end = first.get(value)
            if end is None:
                if value not in writers:
                    return _unwritten(read, value, self.register)
                self._open(value)
                end = first[value]
            if read.end < end:
                first[value] = read.end
            if read.start > last[value]:  # noqa: PLR1730 (max() would double the time of this loop)
                last[value] = read.start
        for value, writer in writers.items():
            if writer is None:
                continue
            if value not in first:
                if writer.outcome == "ok":
                    first[value], last[value] = writer.end, writer.start
            elif first[value] < writer.start:
                return _future(self.register, value, writer)
        return None

    def _open(self, value: Hashable) -> None:
        writer = self.register.writers[value]
        if writer is None:
            self.first[value] = self.last[value] = -1  # before all operations
        else:
            self.first[value], self.last[value] = writer.end, writer.start

    def join_swaps(self) -> Verdict | None:
        """Join the blocks that compare-and-sets link; return what is wrong within a joined block."""
        register, first = self.register, self.first
        made: dict[Hashable, tuple[Hashable, Interval]] = {}
        happened = [value for value in register.swaps if value in first]
        for value in happened:  # grows: an unknown one happened if the value that it made was replaced
            old, swap = register.swaps[value]
            if old not in register.writers:
                return _unwritten(swap, old, register, self._proof(value))
            if old in made:
                other, source = made[old][1], register.writers[old]
                sentence = f"{other} and {swap} both replaced {_text(other, old)}, which was written once"
                proof = [*self._proof(value), *self._proof(made[old][0]), *([source] if source else [])]
                return violated("lost-update", sentence, [other, swap, *proof])
            made[old] = value, swap
            if old not in first:
                self._open(old)
                if old in register.swaps:
                    happened.append(old)
        roots = [old for old in made if old not in register.swaps]
        for root in roots:
            chain = [root]
            while chain[-1] in made:
                chain.append(made[chain[-1]][0])
            self.chains[root] = chain
            self.joined.update(chain)
        for value in happened:
            if value not in self.joined:
                return self._circle(value)
        for chain in self.chains.values():
            verdict = self._check_chain(chain)
            if verdict is not None:
                return verdict
        return None

    def _proof(self, value: Hashable) -> list[Interval]:
        """Return what shows that a write of unknown outcome happened: it was read, or swapped away."""
        proof: list[Interval] = []
        values = [value]
        for seen in values:
            writer = self.register.writers[seen]
            if writer is None or writer.outcome == "ok":
                break
            read = next((op for op in self.register.reads if freeze(op.result) == seen), None)
            if read is not None:
                return [*proof, read]
            for new, (old, swap) in self.register.swaps.items():
                if old == seen and new in self.first and new not in values:
                    proof.append(swap)
                    values.append(new)
        return proof

    def _circle(self, value: Hashable) -> Verdict:
        circle = [value]
        while (old := self.register.swaps[circle[-1]][0]) not in circle:
            circle.append(old)
        swaps = [self.register.swaps[v][1] for v in circle[circle.index(old) :]]
        text = ", ".join(map(str, swaps))
        return violated(
            "unwritten-value", f"each of {text} replaced a value that only the next one wrote", swaps
        )

    def _check_chain(self, chain: list[Hashable]) -> Verdict | None:
        begun, by = -1, chain[0]
        for value in chain:
            if self.first[value] < begun:
                return self._out_of_order(chain[chain.index(by) : chain.index(value) + 1])
            if self.last[value] > begun:
                begun, by = self.last[value], value
        return None

    def _out_of_order(self, chain: list[Hashable]) -> Verdict:
        writers = [writer for value in chain if (writer := self.register.writers[value]) is not None]
        ops = {value: self._ops(value) for value in (chain[0], chain[-1])}
        late = max(ops[chain[0]], key=lambda op: op.start)
        early = min(ops[chain[-1]], key=lambda op: op.end)
        sentence = (
            f"{early} ended before {late} began, but the compare-and-sets between them say that"
            f" {_text(late, chain[0])} came before {_text(early, chain[-1])}"
        )
        return violated("stale-read", sentence, [*writers, late, early])

    def _ops(self, value: Hashable) -> list[Interval]:
        ops = [read for read in self.register.reads if freeze(read.result) == value]
        writer = self.register.writers[value]
        return ops if writer is None else [*ops, writer]

    def zones(self) -> list[tuple[int, int, Hashable]]:
        first, last = self.first, self.last
        zones: list[tuple[int, int, Hashable]] = [
            (end, last[value], value) for value, end in first.items() if value not in self.joined
        ]
        for root, chain in self.chains.items():
            zones.append((min(first[value] for value in chain), max(last[value] for value in chain), root))
        return zones

    def trim(self, group: Sequence[Interval], name: Hashable) -> list[Interval]:
        """Return of a block the writes, the first operation to end and the last to begin.

        And a read of each write whose outcome is unknown, for only that shows that it happened.
        """
        values = set(self.chains.get(name, [name]))
        block = [op for op in group if _happened(op) and _value(op) in values]
        kept = [op for op in block if op.f not in READS]
        unsure = {written(op): op for op in kept if op.outcome == "unknown"}
        kept += {value: op for op in block if (value := _value(op)) in unsure and op.f in READS}.values()
        kept += [min(block, key=_ended), max(block, key=_began)]
        return list({op.start: op for op in kept}.values())


def _happened(interval: Interval) -> bool:
    return interval.outcome == "ok" or (interval.outcome == "unknown" and interval.f not in READS)


def _value(interval: Interval) -> Hashable:
    return freeze(interval.result) if interval.f in READS else written(interval)


_Clash = tuple[list[Interval], list[Interval]]


def _clash(group: Sequence[Interval], initial: Hashable) -> _Clash | None:
    """Return the trimmed operations of two blocks that cannot be ordered, if that is what is wrong."""
    blocks = _Blocks(Register.gather(group, initial))
    if blocks.build() is not None or blocks.join_swaps() is not None:
        return None
    found = conflict(blocks.zones())
    return found and (blocks.trim(group, found[0]), blocks.trim(group, found[1]))


def _explain(clash: _Clash, initial: Hashable, anomaly: str) -> Verdict:
    trimmed = sorted((*clash[0], *clash[1]), key=_began)
    witness = shrink(trimmed, value_units, lambda group: _clash(group, initial) is not None)
    clash = _clash(witness, initial) or clash
    late = max(clash[0], key=_began)
    other = max(clash[1], key=_began)
    early, over = (min(block, key=_ended) for block in clash)
    # A block that nothing ended before holds the initial value.
    before = f"{early} ended" if early.precedes(other) else "the initial value was in place"
    sentence = f"{late} is too late: {before} before {other} began, and {over} ended before {late} began"
    return violated(anomaly, sentence, witness)


def _began(interval: Interval) -> int:
    return interval.start


def _ended(interval: Interval) -> int:
    return interval.end


def _unwritten(
    read: Interval, value: Hashable, register: Register, proof: Sequence[Interval] = ()
) -> Verdict:
    source = register.failed.get(value)
    if source is not None:
        sentence = f"{read} saw a value whose {source} did not happen"
        return violated("aborted-read", sentence, [source, read, *proof])
    return violated("unwritten-value", f"{read} saw a value that nobody wrote", [read, *proof])


def _future(register: Register, value: Hashable, writer: Interval) -> Verdict:
    read = next(r for r in register.reads if r.end < writer.start and freeze(r.result) == value)
    sentence = f"{read} ended before {writer}, the only write of that value, began"
    return violated("future-read", sentence, [read, writer])


def _text(interval: Interval, value: Hashable) -> str:
    if interval.f in SWAPS:
        old, _ = swap_values(interval)
        return show(interval.argument[0] if old == value else interval.argument[1])
    return show(interval.result if interval.f in READS else interval.argument)
