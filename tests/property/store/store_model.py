"""What a store is, as plainly as it can be said: a dict and the rules of the port."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field

from coterie.errors import Conflict, CoterieError, Fenced, LeaseLost
from coterie.ports.store import Commit, Entry


@dataclass
class StoreModel:
    """The state of a store. Revisions are those that the real store returned."""

    entries: dict[str, Entry] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    leases: dict[int, tuple[float, float]] = field(default_factory=dict)
    """The time to live and the end of each lease that is alive."""
    revision: int = 0
    history: dict[int, dict[str, bytes]] = field(default_factory=lambda: {0: {}})
    """The values under each key at every revision whose state is known."""

    def reasons(self, commit: Commit) -> set[type[CoterieError]]:
        """Return why `commit` must be refused; it may be for any of them."""
        reasons: set[type[CoterieError]] = set()
        if any(self.tokens.get(fence.name, 0) > fence.token for fence in commit.fences):
            reasons.add(Fenced)
        if any(self.version(check.key) != check.version for check in commit.checks):
            reasons.add(Conflict)
        if any(put.lease and put.lease not in self.leases for put in commit.puts):
            reasons.add(LeaseLost)
        return reasons

    def version(self, key: str) -> int:
        """Return the version of `key`."""
        return self.entries[key].version if key in self.entries else 0

    def writes(self, commit: Commit) -> bool:
        """Return whether `commit` changes any entry."""
        return bool(commit.puts) or any(key in self.entries for key in commit.deletes)

    def apply(self, commit: Commit, revision: int) -> None:
        """Apply `commit`, which the real store gave `revision`."""
        if self.writes(commit):
            assert revision > self.revision, f"revision {revision} follows {self.revision}"
        else:
            assert revision >= self.revision, f"the present revision is {self.revision}, not {revision}"
        for fence in commit.fences:
            self.tokens[fence.name] = max(fence.token, self.tokens.get(fence.name, 0))
        for put in commit.puts:
            self.entries[put.key] = Entry(put.key, put.value, revision, put.lease)
        for key in commit.deletes:
            self.entries.pop(key, None)
        self.note(revision)

    def note(self, revision: int) -> None:
        """Note that the present state is that of `revision`."""
        assert revision >= self.revision
        self.revision = revision
        self.history[revision] = {key: entry.value for key, entry in self.entries.items()}

    def end_lease(self, lease: int) -> None:
        """End `lease`, whose entries vanish."""
        self.leases.pop(lease, None)
        for key in [key for key, entry in self.entries.items() if entry.lease == lease]:
            del self.entries[key]

    def expire(self, now: float) -> None:
        """End the leases whose time is over."""
        for lease in [lease for lease, (_ttl_s, end) in self.leases.items() if end <= now]:
            self.end_lease(lease)

    def under(self, prefix: str, after: str = "") -> list[Entry]:
        """Return the entries under `prefix` that are beyond `after`, in order."""
        return [self.entries[key] for key in sorted(self.entries) if key.startswith(prefix) and key > after]


def serial_order(
    model: StoreModel, commits: list[Commit], results: list[int | CoterieError], found: list[Entry]
) -> StoreModel | None:
    """Return the model after an order of concurrent commits that explains their results, if there is one."""
    for order in itertools.permutations(range(len(commits))):
        candidate = deepcopy(model)
        explained = all(_explains(candidate, commits[index], results[index]) for index in order)
        if explained and candidate.under("") == found:
            return candidate
    return None


def _explains(model: StoreModel, commit: Commit, result: int | CoterieError) -> bool:
    reasons = model.reasons(commit)
    if isinstance(result, CoterieError):
        return type(result) in reasons
    if reasons or result < model.revision or (model.writes(commit) and result == model.revision):
        return False
    model.apply(commit, result)
    return True
