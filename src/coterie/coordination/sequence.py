"""Sequences: numbers that no two callers get, from a counter in the Store that only rises."""

from __future__ import annotations

import asyncio

import msgspec

from ..codec import record_decoder
from ..errors import Conflict, InvalidArgument, Outcome, Unavailable
from ..ports.store import ABSENT, Check, Commit, Put
from ._names import checked_name, quoted
from .coordination import Coordination, bound

__all__ = ["Sequence"]

_ATTEMPTS = 100
_MOST = 1_000_000
_encode = msgspec.msgpack.Encoder().encode
_decode = record_decoder(int, "a sequence")


class Block:
    """What a node has taken of a sequence and not yet handed out."""

    __slots__ = ("end", "lock", "next", "version")

    def __init__(self) -> None:
        self.next: int = 1
        self.end: int = 1
        self.version: int | None = None
        """Of the counter, as it was seen last."""
        self.lock: asyncio.Lock = asyncio.Lock()


class Sequence:
    """Unique numbers, from 1 on. Declared with `app.sequence(name)`.

    A node takes `block` numbers at a time, with one commit, and hands them out without asking. So the
    numbers of one node rise, and those of several rise together only roughly. With `block=1` each is greater
    than all that were handed out before it was asked for. Numbers that a node had left when it stopped, and
    those of a commit without an answer, are never used: expect gaps.
    """

    def __init__(self, name: str, *, block: int = 100) -> None:
        if type(block) is not int or not 1 <= block <= _MOST:
            raise InvalidArgument(f"a sequence is taken in blocks of 1 to {_MOST}, not {block!r}")
        self.name: str = checked_name("a sequence", name)
        self.block: int = block

    def __repr__(self) -> str:
        return f"Sequence({self.name!r}, block={self.block})"

    async def next(self) -> int:
        """Return a number that nobody else gets.

        Raises `Unavailable` (not applied: at worst a gap), or `Conflict` when it loses every race of many.
        """
        return (await self.reserve(1)).start

    async def reserve(self, count: int) -> range:
        """Return `count` numbers in a row."""
        if not 1 <= count <= _MOST:
            raise InvalidArgument(f"one can have 1 to {_MOST} numbers at once, not {count}")
        here = bound()
        block: Block = here.blocks.setdefault((self.name, self.block), Block())
        if block.end - block.next < count:
            async with block.lock:
                if block.end - block.next < count:
                    await self._take(here, block, max(count, self.block))
        first = block.next
        block.next += count
        return range(first, first + count)

    async def _take(self, here: Coordination, block: Block, size: int) -> None:
        key = f"{here.app}/sequence/{quoted(self.name)}"
        for attempt in range(_ATTEMPTS):
            if block.version is None or attempt:
                entry = await here.store.get(key)
                start = 1 if entry is None else _decode(entry.value)
                block.version = ABSENT if entry is None else entry.version
            else:
                start = block.end  # As this node left it; if somebody was there meanwhile the check says so.
            try:
                check = Check(key, block.version)
                version = await here.store.commit(Commit((Put(key, _encode(start + size)),), (), (check,)))
            except Conflict:
                await asyncio.sleep(0 if attempt == 0 else 0.002 * attempt * here.entropy.random())
                continue
            except BaseException as error:
                block.version = None
                if isinstance(error, Unavailable):
                    error.outcome = Outcome.NOT_APPLIED  # Nobody was given a number.
                raise
            if start != block.end:
                block.next = start  # What was left is not followed by this; it is never used.
            block.end, block.version = start + size, version
            return
        block.version = None
        raise Conflict(
            f"the sequence {self.name!r} lost each of {_ATTEMPTS} races", hint="take larger blocks at a time"
        )
