"""Blocks of operations that no other operation may come between, and whether they can be put in order.

A block is a set of operations that must take effect without one of another block in between: a write
and the reads that saw it, or the acquisition and the release of a lock. What matters of a block is
`first_end`, when its first operation to end has ended, and `last_start`, when its last one to begin
began. Block A must come before block B if some operation of A ended before some operation of B began:
`A.first_end < B.last_start`. Gibbons and Korach (Testing shared memories, SIAM J. Comput. 26(4), 1997,
section 4) show that an order exists unless two blocks must each come before the other, and how to
find such a pair by sorting: the blocks with `first_end < last_start` (forward zones) must not overlap, and no
block of the other sort (a backward zone) may lie inside one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from itertools import pairwise

__all__ = ["Zone", "conflict"]

Zone = tuple[int, int, Hashable]
"""`first_end`, `last_start` and the name of a block."""


def conflict(zones: Sequence[Zone]) -> tuple[Hashable, Hashable, bool] | None:
    """Return two blocks that must each come before the other, or None if an order exists.

    The third item says whether both are forward zones; otherwise the second lies inside the first.
    Takes O(n log n).
    """
    forward = sorted((zone for zone in zones if zone[0] < zone[1]), key=lambda zone: zone[0])
    for before, after in pairwise(forward):
        if after[0] < before[1]:
            return before[2], after[2], True
    # The forward zones are apart now, so only the last that begins before a backward zone can hold it.
    begins = [zone[0] for zone in forward]
    for first_end, last_start, name in zones:
        if last_start <= first_end:
            index = bisect_left(begins, last_start) - 1
            if index >= 0 and first_end < forward[index][1]:
                return forward[index][2], name, False
    return None
