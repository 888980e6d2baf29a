"""Convergence: when updates have ended and time has passed, all replicas answer the same."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from ...errors import InvalidArgument
from ..operations import NEVER, Interval
from ..verdict import Verdict, inconclusive, passed, violated
from ._common import freeze, per_key
from ._register_ops import READS

__all__ = ["check_convergence"]


def check_convergence(intervals: Iterable[Interval], *, settle_s: float = 0.0) -> Verdict:
    """Decide whether the last reads of each key agree.

    Every operation but `read` is an update. Reads count that began after the last update of their
    key ended, and `settle_s` seconds (of the records' `time`) after. Fewer than two such reads of a
    key are inconclusive. An update that failed may yet have left something at some replica, so it counts;
    one of unknown outcome counts as ended when its process gave up.
    """
    if not settle_s >= 0:
        raise InvalidArgument(f"settle_s is {settle_s}; expected 0 or more seconds")
    return per_key(intervals, partial(_decide, settle_ns=int(settle_s * 1e9)))


def _decide(group: list[Interval], settle_ns: int) -> Verdict:
    quiet, quiet_ns = -1, None
    for op in group:
        if op.f not in READS:
            quiet = max(quiet, op.start if op.end == NEVER else op.end)
            quiet_ns = max(quiet_ns or 0, op.start_ns if op.end_ns is None else op.end_ns)
    final = [
        op
        for op in group
        if op.f in READS
        and op.outcome == "ok"
        and op.start > quiet
        and (quiet_ns is None or op.start_ns >= quiet_ns + settle_ns)
    ]
    first = final[0] if final else None
    for op in final[1:]:
        if first is not None and freeze(op.result) != freeze(first.result):
            sentence = f"after the last update, {first} and {op} differ"
            return violated("diverged", sentence, [first, op])
    if len({op.process for op in final}) < 2:
        key = "" if group[0].key is None else f" of key {group[0].key!r}"
        return inconclusive(f"fewer than two processes read{key} after the last update")
    return passed()
