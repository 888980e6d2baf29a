"""How busy the nodes are, as far as one has heard. Pure; best effort, and never older than what was known."""

from __future__ import annotations

from .messages import LoadReport

__all__ = ["LoadTable"]

_FRESH = 64
"""Of how many reports a node remembers that it has not passed them on."""


class LoadTable:
    """The newest report of each node. The freshest ones are passed on, each once."""

    def __init__(self, me: str, most: int) -> None:
        self.mine: LoadReport = LoadReport(me, 0, 0)
        self.load: int = 0
        """The load of this node, to be told from the next period on."""
        self._most = most
        self._reports: dict[str, LoadReport] = {}
        self._fresh: dict[str, LoadReport] = {}

    def get(self, id_: str) -> int | None:
        """Return the last known load of a node, or None."""
        report = self._reports.get(id_)
        return None if report is None else report.load

    def count(self) -> None:
        """Begin a new period: `load` becomes what this node tells."""
        self.mine = LoadReport(self.mine.id, self.mine.count + 1, self.load)

    def hear(self, report: LoadReport) -> None:
        """Take in what is told of another node, unless something newer is known."""
        if report.id == self.mine.id:
            return
        before = self._reports.get(report.id)
        if before is None or before.count < report.count:
            self._reports[report.id] = report
            self._fresh.pop(report.id, None)
            self._fresh[report.id] = report
            if len(self._fresh) > _FRESH:
                del self._fresh[next(iter(self._fresh))]

    def drop(self, id_: str) -> None:
        """Forget a node."""
        self._reports.pop(id_, None)
        self._fresh.pop(id_, None)

    def take(self) -> tuple[LoadReport, ...]:
        """Return what the next message tells: the own load, and the freshest of others."""
        fresh = self._fresh
        return (self.mine, *(fresh.popitem()[1] for _ in range(min(self._most, len(fresh)))))
