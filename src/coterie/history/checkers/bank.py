"""Accounts between which money is moved: no read may see it created, lost or half-way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..operations import Interval, show
from ..verdict import Verdict, inconclusive, passed, violated
from ._common import per_key, refuse
from ._sums import Sums

__all__ = ["check_bank"]

_EXPECTED = 'f to be transfer with {"from": "a", "to": "b", "amount": 5}, or read with {"a": 5, "b": 10}'


def check_bank(
    intervals: Iterable[Interval],
    *,
    total: int | None = None,
    initial: Mapping[str, int] | None = None,
    allow_negative: bool = False,
) -> Verdict:
    """Decide whether each read is a snapshot in which the total is conserved.

    `transfer` moves an amount, `read` returns the balance of each account. The total is `total`, or the
    sum of `initial`, or else that of the first read. Where the initial balances are known (`initial`,
    or a read that ended before the first transfer began), each balance must also lie between what
    the transfers that ended before the read and those that began before its end add up to: that finds
    a transfer that is lost or made twice, which leaves the total as it was. Necessary conditions,
    not full serializability: record transactions and use the model `append` for that.
    """
    return per_key(intervals, lambda group: _decide(group, total, initial, allow_negative))


def _decide(
    group: list[Interval], total: int | None, initial: Mapping[str, int] | None, allow_negative: bool
) -> Verdict:
    transfers = [(op, *_transfer(op)) for op in group if op.f != "read"]
    reads = [op for op in group if op.f == "read" and op.outcome == "ok"]
    for read in reads:
        if not isinstance(read.result, dict) or not all(type(v) is int for v in read.result.values()):
            raise refuse(read, _EXPECTED)
    if not reads:
        return inconclusive("nobody read the balances")
    start = reads[0] if initial is None and total is None else None
    expected = total
    if expected is None:
        expected = sum((reads[0].result if initial is None else initial).values())
    for read in reads:
        verdict = _snapshot(read, expected, start, allow_negative)
        if not verdict.ok:
            return verdict
    first_transfer = min((op.start for op, *_ in transfers), default=None)
    if initial is None and first_transfer is not None:
        before = next((read for read in reads if read.end < first_transfer), None)
        initial = None if before is None else before.result
    return passed() if initial is None else _balances(reads, transfers, initial)


def _transfer(op: Interval) -> tuple[str, str, int]:
    value = op.argument
    if op.f != "transfer" or not isinstance(value, dict) or type(value.get("amount")) is not int:
        raise refuse(op, _EXPECTED)
    if "from" not in value or "to" not in value:
        raise refuse(op, _EXPECTED)
    return str(value["from"]), str(value["to"]), value["amount"]


def _snapshot(read: Interval, expected: int, start: Interval | None, allow_negative: bool) -> Verdict:
    seen = sum(read.result.values())
    if seen != expected:
        sentence = f"process {read.process} read balances of {seen} in all, not {expected}"
        return violated("wrong-total", sentence, [read] if start is None else [start, read])
    if not allow_negative:
        for account, balance in read.result.items():
            if balance < 0:
                sentence = f"process {read.process} read {balance} in account {account}, below zero"
                return violated("negative-balance", sentence, [read])
    return passed()


def _balances(
    reads: list[Interval], transfers: list[tuple[Interval, str, str, int]], initial: Mapping[str, int]
) -> Verdict:
    changes: dict[str, list[tuple[Interval, int]]] = {account: [] for account in initial}
    for op, source, target, amount in transfers:
        changes.setdefault(source, []).append((op, -amount))
        changes.setdefault(target, []).append((op, amount))
    sums = {account: Sums(mine) for account, mine in changes.items()}
    for read in reads:
        for account in sums.keys() | read.result.keys():
            verdict = _balance(read, account, initial.get(account, 0), sums, changes)
            if not verdict.ok:
                return verdict
    return passed()


def _balance(
    read: Interval,
    account: str,
    before: int,
    sums: Mapping[str, Sums],
    changes: Mapping[str, list[tuple[Interval, Any]]],
) -> Verdict:
    if account not in sums:
        sentence = f"process {read.process} read an account {show(account)} that nothing was moved to"
        return violated("unknown-account", sentence, [read])
    low, high = (before + bound for bound in sums[account].bounds(read))
    seen = read.result.get(account, 0)
    if low <= seen <= high:
        return passed()
    could = f"{low}" if low == high else f"from {low} to {high}"
    sentence = (
        f"process {read.process} read {seen} in account {account}, but the transfers until then leave {could}"
    )
    witness = [op for op, _ in changes[account] if op.outcome != "fail" and op.start < read.end]
    return violated("wrong-balance", sentence, [*witness, read])
