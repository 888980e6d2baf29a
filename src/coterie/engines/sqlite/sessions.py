"""What the writer has answered to other processes, stored with what it did for them.

A process that loses its writer does not know which of its operations were applied. It sends them
again to the next writer, under the same session and number, and is given the first answer: the
answers are committed in the same transaction as the operations. So nothing is applied twice and no
outcome stays unknown (exactly-once RPC as in Ongaro's thesis on Raft, section 6.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from .operations import Result

if TYPE_CHECKING:
    from .writer import Request

__all__ = ["SessionLog", "decode_outcomes"]

_MAX_SESSIONS = 10_000
"""Processes that wrote since this one became the writer; of more, the longest silent are forgotten."""

_encode = msgspec.msgpack.Encoder().encode
decode_outcomes: Callable[[bytes], dict[int, Result]] = msgspec.msgpack.Decoder(dict[int, Result]).decode
"""Return the results by number that a stored session holds."""


class SessionLog:
    """The answers that their askers may not have heard, by session. Belongs to the writer thread."""

    def __init__(self, stored: Iterable[tuple[str, bytes]]) -> None:
        self._known: dict[str, dict[int, Result]] = {id_: decode_outcomes(blob) for id_, blob in stored}
        self._next: dict[str, dict[int, Result]] = {}

    def prepare(self, batch: Sequence[Request], results: Sequence[Result]) -> Sequence[tuple[str, bytes]]:
        """Return the sessions to store with `batch`; they count once `confirm` is called."""
        self._next = {}
        for (_, _, number, origin), result in zip(batch, results, strict=True):
            if origin is None:
                continue
            session, heard = origin
            outcomes = self._next.get(session)
            if outcomes is None:
                outcomes = self._next[session] = _unheard(self._known.get(session, {}), heard)
            outcomes[number] = result
        return [(session, _encode(outcomes)) for session, outcomes in self._next.items()]

    def confirm(self) -> None:
        """The transaction that `prepare` was for is committed."""
        for session, outcomes in self._next.items():
            self._known.pop(session, None)
            self._known[session] = outcomes  # The one used last stands last.
        self._next = {}
        while len(self._known) > _MAX_SESSIONS:
            del self._known[next(iter(self._known))]


def _unheard(outcomes: Mapping[int, Result], heard: int) -> dict[int, Result]:
    return {number: result for number, result in outcomes.items() if number > heard}
