"""List-append transactions: cycles of dependencies that an isolation level forbids, as in Elle."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from ...errors import InvalidArgument
from ..operations import NEVER, Interval, describe
from ..verdict import Verdict, passed, violated
from ._appends import Appends, gather
from ._graph import components, shortest_path

__all__ = ["check_append"]

Isolation = Literal["read-committed", "snapshot-isolation", "serializable", "strict-serializable"]
_LEVELS = ("read-committed", "snapshot-isolation", "serializable", "strict-serializable")


def check_append(intervals: Iterable[Interval], *, isolation: Isolation = "strict-serializable") -> Verdict:
    """Decide whether transactions of appends and reads keep to an isolation level.

    The value of an operation is a list of `["append", key, element]` and `["r", key, null]`; in an
    `ok`, each read has its list. Elements are distinct per key. The anomalies, from the weakest level
    that forbids them: `G0` (a cycle of writes), `G1a` (aborted read), `G1b` (intermediate read), `G1c`
    (a cycle of writes and reads), then `G-single` (one anti-dependency: lost update, read skew),
    `G-nonadjacent` (several, none next to each other) and `internal`, then `G2` (write skew), then
    those that need real time, `...-realtime`. The cycle is the witness, with the reads that show in
    which order elements were appended. What it reports is certain; it finds all that there is if
    each append is in some read.
    """
    if isolation not in _LEVELS:
        raise InvalidArgument(f"isolation is {isolation!r}", hint=f"expected one of {', '.join(_LEVELS)}")
    level = _LEVELS.index(isolation)
    found = gather(intervals, internal=level >= 1)
    if isinstance(found, Verdict):
        return found
    graph = _Graph.of(found, realtime=level == 3)
    if not graph.tangled(frozenset({"ww", "wr"}) if level == 0 else frozenset({"ww", "wr", "rw", "rt"})):
        return passed()
    for anomaly, least, kinds, once in _ANOMALIES:
        if level >= least:
            cycle = graph.cycle(kinds, once)
            if cycle is not None:
                return _explain(anomaly, cycle, graph, kinds if once == "never" else kinds | {"rw"})
    return passed()


_ANOMALIES: tuple[tuple[str, int, frozenset[str], str], ...] = (
    ("G0", 0, frozenset({"ww"}), "never"),
    ("G1c", 0, frozenset({"ww", "wr"}), "never"),
    ("G-single", 1, frozenset({"ww", "wr"}), "one"),
    ("G-nonadjacent", 1, frozenset({"ww", "wr"}), "apart"),
    ("G2", 2, frozenset({"ww", "wr", "rw"}), "never"),
    ("G0-realtime", 3, frozenset({"ww", "rt"}), "never"),
    ("G1c-realtime", 3, frozenset({"ww", "wr", "rt"}), "never"),
    ("G-single-realtime", 3, frozenset({"ww", "wr", "rt"}), "one"),
    ("G2-realtime", 3, frozenset({"ww", "wr", "rw", "rt"}), "never"),
)
"""Name, the first level that forbids it, the edges of its cycles, and how often `rw` comes besides."""


@dataclass(slots=True)
class _Graph:
    """The dependencies by kind; transactions go by their `start`."""

    txns: dict[int, Interval]
    edges: dict[str, dict[int, dict[int, tuple[str, Interval | None]]]] = field(
        default_factory=lambda: {"ww": {}, "wr": {}, "rw": {}, "rt": {}}
    )
    """Kind, from, to: the key, and the read that shows the order of its versions."""

    @classmethod
    def of(cls, found: Appends, *, realtime: bool) -> _Graph:
        graph = cls({txn.start: txn for txn in found.txns})
        following: dict[tuple[Hashable, int], list[Interval]] = {}
        for key, longest in found.longest.items():
            writers = [found.writer[key, element] for element in longest.elements]
            unseen = found.unseen.get(key, [])
            for position, writer in enumerate(writers):
                after = writers[position + 1 : position + 2] or unseen
                for other in after:
                    graph.link("ww", writer, other, longest.name, longest.txn)
                following[key, position + 1] = after
            following[key, 0] = writers[:1] or unseen
        for read in found.reads:
            if read.elements:
                graph.link("wr", found.writer[read.key, read.elements[-1]], read.txn, read.name, None)
            shown = found.longest[read.key].txn
            for other in following[read.key, len(read.elements)]:
                graph.link("rw", read.txn, other, read.name, shown)
        if realtime:
            graph.link_realtime()
        return graph

    def link(self, kind: str, one: Interval, other: Interval, key: str, shown: Interval | None) -> None:
        if one.start != other.start:
            self.edges[kind].setdefault(one.start, {}).setdefault(other.start, (key, shown))

    def link_realtime(self) -> None:
        """Link each transaction to those that began after it ended, as few edges as say so.

        Only the last to have ended are kept: what ended before one of them began is reached through it.
        """
        events = [(txn.start, txn) for txn in self.txns.values()]
        events += [(txn.end, txn) for txn in self.txns.values() if txn.end != NEVER]
        recent: list[Interval] = []
        for position, txn in sorted(events, key=lambda event: event[0]):
            if position == txn.end:
                recent = [*(other for other in recent if not other.precedes(txn)), txn]
            else:
                for other in recent:
                    self.link("rt", other, txn, "", None)

    def tangled(self, kinds: frozenset[str]) -> bool:
        """Return whether there is any cycle at all: there is none in most histories."""
        return bool(components(self.txns, {node: self._after(node, kinds) for node in self.txns}))

    def cycle(self, kinds: frozenset[str], once: str) -> list[int] | None:
        """Return a cycle of edges of `kinds`: with no `rw` besides, with `one`, or with some `apart`.

        The shortest of those that were tried; one is found if there is any, except for `one` in a
        component too large to try each `rw` (then `apart` finds it, for the order of the searches).
        """
        if once == "apart":
            return self._apart(kinds)
        everything = kinds if once == "never" else kinds | {"rw"}
        merged = {node: self._after(node, everything) for node in self.txns}
        best: list[int] | None = None
        for component in components(self.txns, merged):
            inside = set(component)
            opening = kinds if once == "never" else frozenset({"rw"})
            edges = ((node, other) for node in component for other in self._after(node, opening) & inside)
            for start, first in islice(edges, _tries(component)):
                path = shortest_path(first, start, lambda node: self._after(node, kinds) & inside)  # noqa: B023
                if path is not None and (best is None or len(path) < len(best)):
                    best = path
        return best

    def _apart(self, kinds: frozenset[str]) -> list[int] | None:
        """Return a cycle with an `rw` in it and never two in a row.

        Odd places are transactions that an `rw` led to, after which no other `rw` may come; so each
        cycle of places through an odd one is such a cycle, and each such cycle is one of places.
        """
        places: dict[int, set[int]] = {}
        for node in self.txns:
            plain = {2 * other for other in self._after(node, kinds)}
            places[2 * node + 1] = plain
            places[2 * node] = plain | {2 * other + 1 for other in self._after(node, frozenset({"rw"}))}
        best: list[int] | None = None
        for component in components(places, places):
            inside = set(component)
            odd = (place for place in component if place % 2)
            for start in islice(odd, _tries(component)):
                for first in places[start] & inside:
                    path = shortest_path(first, start, lambda place: places[place] & inside)  # noqa: B023
                    if path is not None and (best is None or len(path) < len(best)):
                        best = path
        return None if best is None else [place // 2 for place in best]

    def _after(self, node: int, kinds: frozenset[str]) -> set[int]:
        return {other for kind in kinds for other in self.edges[kind].get(node, ())}


_SAYS = {
    "ww": "appended to {key} before",
    "wr": "appended to {key} what was read by",
    "rw": "did not see in {key} what was appended by",
    "rt": "ended before the beginning of",
}


def _explain(anomaly: str, cycle: list[int], graph: _Graph, kinds: frozenset[str]) -> Verdict:
    """Return the violation; of several edges from one to the next, one of `kinds` is told."""
    witness = [graph.txns[node] for node in cycle]
    parts = []
    for node, other in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        there = [kind for kind in kinds if other in graph.edges[kind].get(node, ())]
        kind = min(there, key=("ww", "wr", "rt", "rw").index)
        key, shown = graph.edges[kind][node][other]
        one, two = (f"T{cycle.index(n) + 1}" for n in (node, other))
        parts.append(f"{one} {_SAYS[kind].format(key=key)} {two} ({kind})")
        if shown is not None:
            witness.append(shown)
    names = "; ".join(
        f"T{i + 1} is process {graph.txns[n].process}'s {describe(graph.txns[n])}"
        for i, n in enumerate(cycle)
    )
    return violated(anomaly, f"{', '.join(parts)}, where {names}", witness)


def _tries(component: list[int]) -> int:
    """Return how many edges to look for short cycles through, so that the work stays bounded."""
    return max(20, 200_000 // len(component))
