"""Holds what a notebook has of coordination to what it promises. Pure.

* Tokens of a lock, a semaphore or an election are unique, and rise from one acquisition to the next.
* By the Store's own view, no more hold at once than may.
* A write with a token is made where the token was given: at most one leader acts per token.
* No number of a sequence is given out twice. Those of one node rise; with `block=1` all do.
* A tick is run once for each attempt, not after its run is over, and with `crashed="leave"` once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ...history import MODELS
from ...history.checkers._order import falls
from .broken import Broken
from .evidence import Acquired, Ran, Reserved
from .notebook import Notebook

__all__ = ["judge_coordination"]


def judge_coordination(notebook: Notebook) -> Iterator[Broken]:
    """Yield each promise of coordination that was broken."""
    yield from _locks(notebook)
    yield from _sequences(notebook)
    yield from _ticks(notebook)


def _named(path: str | None) -> str:
    """Return `lock/counter` as `the lock 'counter'`."""
    kind, _, name = str(path).partition("/")
    return f"the {kind} {name!r}"


def _locks(notebook: Notebook) -> Iterator[Broken]:
    for given in notebook.acquired:
        if given.beside:
            hosts = ", ".join(sorted(each.host for each in given.beside))
            yield Broken(
                "locks",
                f"{given.noted.host} was given {_named(given.noted.key)} while {hosts} held it",
                (*(each.interval() for each in given.beside), given.noted.interval()),
            )
    # Who holds is said above, by the Store: a holder may believe for a while that it still does.
    verdict = MODELS["mutex"].decide([given.noted.interval() for given in notebook.acquired], mode="fenced")
    if not verdict.ok:
        yield Broken(
            "locks",
            f"the tokens of {_named(verdict.witness[0].key)} are not right: {verdict.sentence}",
            verdict.witness,
            verdict.status == "inconclusive",
        )
    yield from _holders_write(notebook)


def _holders_write(notebook: Notebook) -> Iterator[Broken]:
    holders: dict[tuple[str | None, int], Acquired] = {
        (given.fence, given.token): given for given in notebook.acquired
    }
    for write in notebook.fenced:
        holder = holders.get((write.fence.name, write.fence.token))
        if holder is not None and holder.noted.host != write.noted.host:
            yield Broken(
                "locks",
                f"{write.noted.host} wrote with the token {write.fence.token} of {_named(holder.noted.key)}, "
                f"which {holder.noted.host} was given",
                (holder.noted.interval(), write.noted.interval()),
            )


def _sequences(notebook: Notebook) -> Iterator[Broken]:
    named: defaultdict[str, list[Reserved]] = defaultdict(list)
    for each in notebook.reserved:
        named[each.noted.key or ""].append(each)
    for name, given in named.items():
        furthest: Reserved | None = None
        for each in sorted(given, key=lambda each: each.first):
            if furthest is not None and each.first <= furthest.last:
                yield Broken(
                    "sequences",
                    f"{furthest.noted.host} and {each.noted.host} were both given the number {each.first} "
                    f"of the sequence {name!r}",
                    (furthest.noted.interval(), each.noted.interval()),
                )
            if furthest is None or each.last > furthest.last:
                furthest = each
        nodes: defaultdict[tuple[str, int], list[Reserved]] = defaultdict(list)
        for each in given:
            nodes[each.noted.host, each.block].append(each)
        for group in ([each for each in given if each.block == 1], *nodes.values()):
            yield from _rising(name, group)


def _rising(name: str, group: list[Reserved]) -> Iterator[Broken]:
    found = falls([(each.noted.interval(), each.first) for each in group])
    if found is not None:
        before, after = found
        yield Broken(
            "sequences",
            f"{after.process} was given a lower number of the sequence {name!r} "
            f"than {before.process} before it asked",
            found,
        )


def _ticks(notebook: Notebook) -> Iterator[Broken]:
    first: dict[tuple[str, float, int], Ran] = {}
    for ran in notebook.ran:
        name = ran.noted.key or ""
        other = first.setdefault((name, ran.due, ran.attempt if ran.again else 1), ran)
        if other is not ran:
            yield Broken(
                "schedules",
                f"{other.noted.host} and {ran.noted.host} both ran {name!r} for the tick {ran.due:.3f}",
                (other.noted.interval(), ran.noted.interval()),
            )
        over = notebook.over.get((name, ran.due))
        if over is not None and ran.token > over:
            yield Broken(
                "schedules",
                f"{ran.noted.host} ran {name!r} for the tick {ran.due:.3f}, whose run was over",
                (ran.noted.interval(),),
            )
