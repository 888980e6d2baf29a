"""Holds what a notebook has to what every declared block promises. Pure.

* A map is linearizable: each key reads what was last written to it.
* Transactions are strictly serializable, together with all other reads and writes.
* A write takes effect once, and a version never changes.
* A write with the token of a lease is refused once one with a later token was accepted.
* A request reaches its handler at most once, and never when its caller was told that it did not.
* The items of a stream come in order, without a gap, and all of them if it comes to its end.
* An idempotent method gives all calls with one key the same reply, and does not run again once it is given.
* A scan finds what is there, once and in order: see `judge_scans`.
* Locks, sequences and schedules: see `judge_coordination`. Rate limits: see `judge_rates`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ...history import MODELS
from .appends import as_appends
from .broken import Broken
from .evidence import Call, FencedWrite, Keyed, Streamed
from .judge_coordination import judge_coordination
from .judge_rates import judge_rates
from .judge_scans import judge_scans
from .notebook import Notebook

__all__ = ["Broken", "judge"]


def judge(notebook: Notebook) -> Broken | None:
    """Return the first promise that was broken, else the first that is inconclusive, else None."""
    unsure: Broken | None = None
    for broken in _all(notebook):
        if broken.inconclusive or not _is_complete(broken, notebook):
            unsure = unsure or replace(broken, inconclusive=True)
        else:
            return broken
    if unsure is None and notebook.full:
        return Broken("evidence", "the universe had more operations than are recorded", inconclusive=True)
    return unsure


def _is_complete(broken: Broken, notebook: Notebook) -> bool:
    """Return whether all is recorded that could explain the witness: what began before it saw anything."""
    last = notebook.full_at
    return last is None or all(each.end <= last or each.outcome == "unknown" for each in broken.witness)


def _all(notebook: Notebook) -> Iterator[Broken]:
    yield from _maps(notebook)
    yield from _versions(notebook)
    yield from judge_scans(notebook)
    yield from _transactions(notebook)
    yield from _fences(notebook)
    yield from _calls(notebook.calls)
    yield from _streams(notebook.streams)
    for (method, key), kept in notebook.keyed.items():
        if kept.runs and kept.replies:
            yield from _idempotent(method, key, kept)
    yield from judge_coordination(notebook)
    yield from judge_rates(notebook)


def _maps(notebook: Notebook) -> Iterator[Broken]:
    verdict = MODELS["map"].decide([noted.interval() for noted in notebook.operations])
    if verdict.ok:
        return
    key = verdict.witness[0].key if verdict.witness else "?"
    name = str(key).partition("/")[0]
    yield Broken(
        f"map {name}",
        f"the map {name!r} is not linearizable: {verdict.sentence}",
        verdict.witness,
        verdict.status == "inconclusive",
    )


def _versions(notebook: Notebook) -> Iterator[Broken]:
    for sentence in notebook.contradictions:
        yield Broken("versions", sentence)
    writes = {str(noted.argument): noted for noted in notebook.operations if noted.f == "put"}
    writes |= {str(noted.argument[1]): noted for noted in notebook.operations if noted.f == "cas"}
    for key, known in notebook.versions.items():
        first: dict[int, int] = {}
        for version, number in sorted(known.items()):
            if number and first.setdefault(number, version) != version:
                label, name = notebook.labels[number], notebook.name(key)
                wrote = writes.get(label)
                yield Broken(
                    "one effect",
                    f"{name!r} = {label} took effect twice: as version {first[number]} and as {version}",
                    () if wrote is None else (wrote.interval(),),
                )


def _transactions(notebook: Notebook) -> Iterator[Broken]:
    if not any(commit.several for commit in notebook.commits):
        return  # Then it is all said by the single keys: linearizability is local.
    verdict = MODELS["append"].decide(as_appends(notebook))
    if not verdict.ok:
        yield Broken(
            "transactions",
            f"transactions are not serializable: {verdict.sentence}",
            verdict.witness,
            verdict.status == "inconclusive",
        )


def _fences(notebook: Notebook) -> Iterator[Broken]:
    latest: dict[str, FencedWrite] = {}
    for write in sorted(notebook.fenced, key=lambda each: each.revision):
        before = latest.setdefault(write.fence.name, write)
        if write.fence.token < before.fence.token:
            yield Broken(
                "fences",
                f"{write.noted.host} wrote with the token {write.fence.token} after {before.noted.host} "
                f"had with the later token {before.fence.token} of {write.fence.name!r}",
                (before.noted.interval(), write.noted.interval()),
            )
        else:
            latest[write.fence.name] = write


def _calls(calls: Iterable[Call]) -> Iterator[Broken]:
    for call in calls:
        witness = (call.interval(), *(ran.interval() for ran in call.handled))
        if len(call.handled) > 1:
            where = ", ".join(ran.host for ran in call.handled)
            yield Broken(
                "calls",
                f"one call of {call.key} by {call.host} reached its handler twice: on {where}",
                witness,
            )
        elif call.refused and call.handled:
            yield Broken(
                "calls",
                f"{call.host} was told that its call of {call.key} reached nobody, but {call.target} ran it",
                witness,
            )
        elif call.outcome == "ok" and not call.handled:
            yield Broken("calls", f"{call.host} got an answer to {call.key} that no handler gave", witness)


def _streams(streams: Iterable[Streamed]) -> Iterator[Broken]:
    for each in streams:
        witness = (each.noted.interval(), *(ran.interval() for ran in each.handled))
        what = f"the stream {each.noted.key} from {each.target} to {each.noted.host}"
        if len(each.handled) > 1:
            where = ", ".join(ran.host for ran in each.handled)
            yield Broken("streams", f"{what} reached its handler twice: on {where}", witness)
        elif each.noted.outcome == "ok" and not each.handled:
            yield Broken("streams", f"{what} came to an end that no handler made", witness)
        elif each.wrong:
            yield Broken("streams", f"{what} is not what was sent: {each.wrong}", witness)


def _idempotent(method: str, key: str, kept: Keyed) -> Iterator[Broken]:
    told = sorted(kept.replies, key=lambda reply: reply[0].end)
    first, body = told[0]
    runs = [ran.interval() for ran in kept.runs]
    for call, other in told[1:]:
        if other != body:
            yield Broken(
                "idempotent",
                f"{first.host} and {call.host} had different replies to one key of {method}: {key!r}",
                (first.interval(), call.interval(), *runs),
            )
    for ran in kept.runs:
        if ran.start > first.end:
            yield Broken(
                "idempotent",
                f"{method} ran again on {ran.host}, after {first.host} had the reply to its key {key!r}",
                (first.interval(), *runs),
            )
