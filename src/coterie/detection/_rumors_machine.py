"""What a node still has to tell. Pure.

Das, Gupta and Motivala, "SWIM" (DSN 2002), section 4: news travels on the messages that are sent anyway,
a bounded number on each, and each piece so often that it reaches everybody with high probability. What
was told least goes first. There is one piece a node: newer news takes the place of older news.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from operator import attrgetter

from .messages import Rumor

__all__ = ["Rumors"]


class _Piece:
    __slots__ = ("rumor", "told")

    def __init__(self, rumor: Rumor) -> None:
        self.rumor = rumor
        self.told = 0


_told = attrgetter("told")


class Rumors:
    """The news that a node passes on."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: dict[str, _Piece] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, rumor: Rumor) -> None:
        """Begin to tell `rumor`, in place of anything that was told of the same node."""
        self._pieces[rumor.id] = _Piece(rumor)

    def drop(self, ids: Iterable[str]) -> None:
        """Tell nothing of these nodes any more."""
        for id_ in ids:
            self._pieces.pop(id_, None)

    def take(self, repeats: int, first: Sequence[Rumor] = ()) -> tuple[Rumor, ...]:
        """Return what the next message tells. Each piece is returned `repeats` times, then forgotten.

        `first` goes with it in any case: what its receiver must know whether or not it is news.
        """
        pieces = self._pieces
        if not pieces:
            return tuple(first)
        chosen: Iterable[_Piece] = pieces.values()
        if len(pieces) > self._most:
            chosen = heapq.nsmallest(self._most, chosen, key=_told)
        rumors = list(first)
        for piece in tuple(chosen):
            piece.told += 1
            if piece.told >= repeats:
                del pieces[piece.rumor.id]
            if piece.rumor not in first:
                rumors.append(piece.rumor)
        return tuple(rumors)
