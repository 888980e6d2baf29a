"""Commits and reads of plain values as transactions over lists, which tell more of their own history.

The store gives every entry a version, so the writes of a key have an order that is known wherever
they were seen. A key is taken for the list of its writes in that order, a write for an append to
it, and a read of a version for a read of the list up to there. A deletion is no element.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from ...history import NEVER, Interval
from .evidence import Committed, Noted
from .notebook import DELETED, Notebook

__all__ = ["as_appends"]

_MOST_ELEMENTS = 1_000_000
"""How much the lists of all single reads together may hold; further ones are left out."""


@dataclass(slots=True)
class _List:
    """The versions of a key at which something was written, in order, and what."""

    versions: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    deleted: bool = False

    def until(self, version: int) -> list[str] | None:
        """Return the list as `version` of the key has it, or None if that cannot be said."""
        if version == 0:
            return None if self.deleted else []
        return self.labels[: bisect_right(self.versions, version)]


def as_appends(notebook: Notebook) -> list[Interval]:
    """Return the commits and the single reads as operations of the model `append`."""
    lists = {key: _list(known, notebook.labels) for key, known in notebook.versions.items()}
    for commit in notebook.commits:
        for key, number in commit.writes:
            if number == DELETED:
                lists.setdefault(key, _List()).deleted = True
    found = [_transaction(commit, lists, notebook) for commit in notebook.commits]
    left = _MOST_ELEMENTS
    for seen in notebook.seen:
        elements = _read(lists, seen.key, seen.version)
        if elements is None or len(elements) > left:
            continue
        left -= len(elements)
        found.append(_interval(seen.noted, [], [["r", notebook.name(seen.key), elements]]))
    return sorted(found, key=lambda interval: interval.start)


def _list(known: dict[int, int], labels: dict[int, str]) -> _List:
    written = sorted((version, number) for version, number in known.items() if number != DELETED)
    return _List(
        [version for version, _ in written],
        [labels.get(number, f"write {number}") for _, number in written],
        deleted=len(written) < len(known),
    )


def _read(lists: dict[str, _List], key: str, version: int) -> list[str] | None:
    found = lists.get(key)
    if found is not None:
        return found.until(version)
    return [] if version == 0 else None


def _transaction(commit: Committed, lists: dict[str, _List], notebook: Notebook) -> Interval:
    appends = [
        ["append", notebook.name(key), notebook.labels[number]]
        for key, number in commit.writes
        if number != DELETED
    ]
    reads = []
    for key, version in commit.reads:
        elements = _read(lists, key, version)
        if elements is not None:
            reads.append(["r", notebook.name(key), elements])
    return _interval(commit.noted, appends, [*reads, *appends])


def _interval(noted: Noted, argument: list[Any], result: list[Any]) -> Interval:
    ok = noted.outcome == "ok"
    return Interval(
        noted.host,
        "txn",
        None,
        argument,
        result if ok else None,
        noted.outcome,  # type: ignore[arg-type]  # one of the three
        noted.start,
        NEVER if noted.outcome == "unknown" else noted.end,
        noted.start_ns,
        noted.end_ns,
        noted.error,
    )
