"""Holds what a notebook has of coordination to what it promises. Pure.

* Tokens of a lock, a semaphore or an election are unique, and rise from one acquisition to the next.
* By the Store's own view, no more hold at once than may.
* A write with a token is made where the token was given: at most one leader acts per token.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...history import MODELS
from .broken import Broken
from .notebook import Acquired, Notebook

__all__ = ["judge_coordination"]


def judge_coordination(notebook: Notebook) -> Iterator[Broken]:
    """Yield each promise of coordination that was broken."""
    yield from _locks(notebook)


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
