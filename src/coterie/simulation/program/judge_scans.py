"""Holds what scans of maps found to what they promise. Pure.

* Keys come in their order, each once, and none without the prefix.
* No entry is older than one whose write was acknowledged before the scan began.
* An entry that was there before the scan began, and was not deleted until the scan was past it, is found.

Each is said of a single key: a scan of several pages is not one view of the map.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...history.operations import show
from .broken import Broken
from .evidence import Committed, Noted, Scanned
from .notebook import DELETED, Notebook

__all__ = ["judge_scans"]


def judge_scans(notebook: Notebook) -> Iterator[Broken]:
    """Yield what scans found and should not have, or should have found."""
    if notebook.full:
        return  # What is missing may have been deleted by a commit that is not recorded.
    keys = _keys(notebook.commits) if notebook.scanned else {}
    names = sorted(keys)
    for scan in notebook.scanned:
        yield from _in_order(notebook, scan)
        found = dict(scan.found)
        for name in names[bisect_left(names, scan.prefix) :]:
            if not name.startswith(scan.prefix) or not scan.reached(name):
                break
            written = keys[name].newest_before(scan.noted.start)
            if written is None:
                continue
            if name not in found:
                if written.number != DELETED and not keys[name].deleted_by(scan.until, written.version):
                    yield _missing(notebook, scan, name, written)
            elif found[name] < written.version:
                yield _stale(notebook, scan, name, written)


@dataclass(frozen=True, slots=True)
class _Written:
    """A write that was acknowledged."""

    noted: Noted
    version: int
    number: int


@dataclass(slots=True)
class _Key:
    """The writes of a key."""

    ends: list[int] = field(default_factory=list)
    """When writes were acknowledged, in order."""
    newest: list[_Written] = field(default_factory=list)
    """The newest version that had been acknowledged by then."""
    deletions: list[tuple[int, int | None]] = field(default_factory=list)
    """When each deletion began that may have happened, and its version if that is known."""

    def newest_before(self, position: int) -> _Written | None:
        """Return the newest that was acknowledged before `position`."""
        count = bisect_left(self.ends, position)
        return self.newest[count - 1] if count else None

    def deleted_by(self, position: int, version: int) -> bool:
        """Return whether the entry of this version may have been deleted before `position`."""
        return any(
            began < position and (deleted is None or deleted > version) for began, deleted in self.deletions
        )


def _keys(commits: list[Committed]) -> dict[str, _Key]:
    keys: defaultdict[str, _Key] = defaultdict(_Key)
    for commit in sorted(commits, key=lambda commit: commit.noted.end):
        happened = commit.noted.outcome == "ok"
        for (name, number), noted in zip(commit.writes, commit.parts, strict=False):
            key = keys[name]
            if number == DELETED and noted.outcome != "fail":
                key.deletions.append((noted.start, commit.revision if happened else None))
            if happened:
                before = key.newest[-1] if key.newest else None
                written = _Written(noted, commit.revision, number)
                key.ends.append(noted.end)
                key.newest.append(before if before and before.version > written.version else written)
    return dict(keys)


def _in_order(notebook: Notebook, scan: Scanned) -> Iterator[Broken]:
    before = ""
    for name, _ in scan.found:
        if name <= before or not name.startswith(scan.prefix):
            wrong = f"after {show(notebook.name(before))}" if name <= before else "which has not the prefix"
            yield _broken(notebook, scan, f"found {show(notebook.name(name))} {wrong}")
        before = name


def _missing(notebook: Notebook, scan: Scanned, name: str, written: _Written) -> Broken:
    entry = f"{show(notebook.name(name))} = {notebook.labels[written.number]}"
    return _broken(notebook, scan, f"did not find {entry}, which was there all the time", written.noted)


def _stale(notebook: Notebook, scan: Scanned, name: str, written: _Written) -> Broken:
    entry = f"version {dict(scan.found)[name]} of {show(notebook.name(name))}"
    by = f"had become {notebook.labels[written.number]} before, with version {written.version}"
    return _broken(notebook, scan, f"found {entry}, which {by}", written.noted)


def _broken(notebook: Notebook, scan: Scanned, what: str, *writes: Noted) -> Broken:
    return Broken(
        f"map {notebook.name(scan.prefix).partition('/')[0]}",
        f"a scan of {show(notebook.name(scan.prefix))} by {scan.noted.host} {what}",
        (*(each.interval() for each in writes), scan.noted.interval()),
    )
