"""Fences as keys of their own, each with the greatest token as its value. No I/O.

etcd cannot compare numbers, so a commit demands what this process knows of a fence: that it is as it was
seen last. If that is no longer so the answer tells how it is now, and the commit is tried again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from ...errors import Fenced
from ...ports.store import Fence
from .messages import KeyValue, compare_absent, compare_mod, put_op

__all__ = ["Fences"]

_MAX_KNOWN = 4096


class Fences:
    """What is known of the fences: the revision and the token of each, from the last answers."""

    def __init__(self, space: bytes) -> None:
        self._space = space
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def key(self, name: str) -> bytes:
        """Return the key of a fence."""
        return self._space + name.encode()

    def demand(self, fences: Sequence[Fence]) -> tuple[list[bytes], list[bytes]]:
        """Return what must hold, and what is written then. Raises `Fenced`: tokens never fall."""
        compares, puts = [], []
        for fence in fences:
            key = self.key(fence.name)
            revision, token = self._known.get(fence.name, (0, 0))
            if fence.token < token:
                raise Fenced(f"the fence {fence.name!r} has seen token {token}, later than {fence.token}")
            compares.append(compare_mod(key, revision) if revision else compare_absent(key))
            if fence.token > token or not revision:
                puts.append(put_op(key, b"%d" % max(fence.token, token)))
        return compares, puts

    def committed(self, fences: Sequence[Fence], revision: int) -> None:
        """Take note that a commit with these fences was applied at `revision`."""
        for fence in fences:
            known_revision, token = self._known.get(fence.name, (0, 0))
            if fence.token > token or not known_revision:
                self._note(fence.name, revision, max(fence.token, token))

    def found(self, name: str, entry: KeyValue | None) -> None:
        """Take note of how a fence is."""
        if entry is None:
            self._known.pop(name, None)
        else:
            self._note(name, entry.mod_revision, int(entry.value))

    def _note(self, name: str, revision: int, token: int) -> None:
        known = self._known.get(name)
        if known is None or known[0] <= revision:
            self._known[name] = (revision, token)
            self._known.move_to_end(name)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
