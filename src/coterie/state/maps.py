"""Strong maps: typed, linearizable, versioned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from ..codec import UNENCODABLE, Codec, codec_for, type_name
from ..context import CURRENT, current, note_failure
from ..errors import (
    Conflict,
    CorruptData,
    DeadlineExceeded,
    Fenced,
    InvalidArgument,
    NotRunning,
    Outcome,
)
from ..ports.entropy import Entropy
from ..ports.guarantees import Consistency, Durability
from ..ports.store import ABSENT, Batch, Check, Commit, Entry, Put, Store
from ._fenced import Fencing, commit_fenced
from ._retry import Contention

__all__ = ["Item", "MapBinding", "MapChange", "StrongMap"]

V = TypeVar("V")
D = TypeVar("D")

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Item(Generic[V]):
    """An entry of a map; `version` is what `put(expect=...)` takes."""

    key: str
    value: V
    version: int


@dataclass(frozen=True, slots=True)
class MapChange(Generic[V]):
    """A key's new state; when it is `deleted`, `value` is None and `version` that of the deletion."""

    key: str
    value: V | None
    version: int
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MapBinding:
    """What a node makes of a map: where its entries live."""

    store: Store
    prefix: str
    """What the store's keys of this map start with."""
    entropy: Entropy


class StrongMap(Generic[V]):
    """A map from text to values of one type, shared by all nodes, linearizable.

    Declared with `app.map(name, type)` and used from any code that runs on a node or within
    `app.connect()`. Keys are non-empty text of up to about 1,000 bytes. Every method may raise
    `Unavailable`: its `outcome` says whether a write may have been applied.

    Not promised: a `scan` of more than one page is not one snapshot, and `watch` shows the newest
    state of each key, not each state in between, when the watcher falls behind.
    """

    def __init__(
        self,
        name: str,
        tp: type[V],
        *,
        durability: Durability = Durability.NONE,
        contention: Contention | None = None,
    ) -> None:
        self.name = name
        self.type = tp
        self.consistency = Consistency.LINEARIZABLE
        self.durability = durability
        self.codec: Codec[V] = codec_for(tp)
        self._contention = contention or Contention()
        self._encode = self.codec.encode
        self._decode_raw = self.codec.decode
        self._validate = self.codec.validate
        # A look at the type says all of these; asking msgspec costs more than the rest of a put.
        self._plain = tp if tp in (bytes, str, bool) else None

    def __repr__(self) -> str:
        return f"StrongMap({self.name!r}, {type_name(self.type)})"

    @overload
    async def get(self, key: str) -> V | None: ...
    @overload
    async def get(self, key: str, default: V) -> V: ...  # So that `[]` is of the map's type.
    @overload
    async def get(self, key: str, default: D) -> V | D: ...
    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default` when it is absent."""
        bound = self._bound()
        entry = await bound.store.get(bound.prefix + self._checked(key))
        return default if entry is None else self._decode(entry)

    async def get_item(self, key: str) -> Item[V] | None:
        """Return the value of `key` with its version, or None when it is absent."""
        bound = self._bound()
        entry = await bound.store.get(bound.prefix + self._checked(key))
        return None if entry is None else Item(key, self._decode(entry), entry.version)

    async def put(
        self, key: str, value: V, *, expect: int | None = None, fence: Fencing | None = None
    ) -> int:
        """Write `value` under `key` and return its version.

        With `expect`, only if the entry's version is that one, or, with `expect=0`, if there is no
        entry; otherwise raises `Conflict`. With `fence`, a lease, only if that lease is still held and no
        later holder has written; otherwise raises `Fenced`.
        """
        bound = self._bound()
        # Calls that a put can do without are felt: most keys are plain text, most values plain or valid.
        stored = bound.prefix + (key if type(key) is str and key else self._checked(key))
        checked = value if type(value) is self._plain else self._validate(value)
        try:
            puts = (Put(stored, self._encode(checked)),)
        except UNENCODABLE as error:
            raise self._unencodable(error) from error
        commit = Commit(puts) if expect is None else Commit(puts, (), (Check(stored, expect),))
        try:
            # Most writes are under no fence; they are made here, as each call between costs.
            if fence is not None:
                return await commit_fenced(bound.store, commit, fence)
            version = await bound.store.commit(commit)
        except Fenced:
            raise
        except Conflict as error:
            raise self._conflict(error, key, expect or 0) from error
        except BaseException as error:
            note_failure(error)
            raise
        CURRENT.get().acted = True
        return version

    async def delete(self, key: str, *, expect: int | None = None, fence: Fencing | None = None) -> None:
        """Remove the entry of `key`, if there is one. With `expect` and `fence`, as `put`."""
        bound = self._bound()
        stored = bound.prefix + self._checked(key)
        commit = Commit((), (stored,), () if expect is None else (Check(stored, expect),))
        try:
            await commit_fenced(bound.store, commit, fence)
        except Fenced:
            raise
        except Conflict as error:
            raise self._conflict(error, key, expect or 0) from error

    @overload
    async def update(self, key: str, fn: Callable[[V | None], V], *, fence: Fencing | None = None) -> V: ...
    @overload
    async def update(
        self, key: str, fn: Callable[[V], V], *, default: V, fence: Fencing | None = None
    ) -> V: ...
    async def update(
        self,
        key: str,
        fn: Callable[[Any], V],
        *,
        default: V | None = None,
        fence: Fencing | None = None,
    ) -> V:
        """Replace the value of `key` by `fn(value)`, atomically, and return the new one.

        `fn` gets `default` when the key is absent. It may be called several times, so it must have no
        other effect. Raises `Conflict` when it loses every race of many, `Fenced` as `put` does, and
        whatever `fn` raises.
        """
        bound = self._bound()
        stored = bound.prefix + self._checked(key)
        for attempt in range(self._contention.attempts):
            entry = await bound.store.get(stored)
            value = self._validate(fn(default if entry is None else self._decode(entry)))
            check = Check(stored, ABSENT if entry is None else entry.version)
            try:
                commit = Commit((Put(stored, self._encoded(value)),), (), (check,))
                await commit_fenced(bound.store, commit, fence)
            except Fenced:
                raise
            except Conflict:
                await pause(self._contention.wait_s(attempt, bound.entropy.random()))
            else:
                return value
        raise Conflict(
            f"{self.name}[{key!r}] changed during each of {self._contention.attempts} attempts to update it",
            hint="spread the writes over several keys",
        )

    async def scan(self, prefix: str = "", *, limit: int | None = None) -> AsyncGenerator[Item[V], None]:
        """Iterate over the entries whose keys start with `prefix`, in the order of their keys.

        Entries that are there throughout the scan are all seen, each once. Those written or deleted
        meanwhile may or may not be.
        """
        bound = self._bound()
        left = limit
        after = ""
        while left is None or left > 0:
            page = await bound.store.scan(
                bound.prefix + prefix, after=after, limit=_PAGE if left is None else min(_PAGE, left)
            )
            for entry in page.entries:
                yield Item(entry.key[len(bound.prefix) :], self._decode(entry), entry.version)
            if not page.more:
                return
            after = page.entries[-1].key
            left = None if left is None else left - len(page.entries)

    async def watch(self, prefix: str = "", *, initial: bool = True) -> AsyncGenerator[MapChange[V], None]:
        """Follow the keys that start with `prefix`: first, unless `initial` is false, what is there now.

        No key's newest state is missed. Endless: leave the loop, or close the generator, to stop.
        """
        bound = self._bound()
        known: dict[str, int] = {}
        first = True
        async with aclosing(bound.store.watch(bound.prefix + prefix)) as batches:
            async for batch in batches:
                for change in _news(batch, known):
                    if initial or not first:
                        yield self._change(bound, change.key, change.value, change.version)
                first = False

    def _change(self, bound: MapBinding, stored: str, data: bytes | None, version: int) -> MapChange[V]:
        key = stored[len(bound.prefix) :]
        if data is None:
            return MapChange(key, None, version, deleted=True)
        return MapChange(key, self._decode(Entry(stored, data, version)), version)

    def _bound(self) -> MapBinding:
        try:
            bound: MapBinding = current().bindings[self]
        except KeyError:
            raise NotRunning(
                f"the map {self.name!r} is not declared by the app that runs here",
                hint="declare it with app.map(...) before the node starts, and use the same app",
            ) from None
        return bound

    def _checked(self, key: object) -> str:
        # The store refuses an empty key too, but it would see one with the map's prefix before it.
        if not isinstance(key, str) or not key:
            raise InvalidArgument(f"a key of the map {self.name!r} must be a non-empty str, not {key!r}")
        return key

    def _encoded(self, value: V) -> bytes:
        try:
            return self._encode(value)
        except UNENCODABLE as error:
            raise self._unencodable(error) from error

    def _unencodable(self, error: Exception) -> InvalidArgument:
        return InvalidArgument(f"a value cannot be kept in the map {self.name!r}: {error}")

    def _decode(self, entry: Entry) -> V:
        try:
            return self._decode_raw(entry.value)
        except InvalidArgument as error:
            raise CorruptData(
                f"the entry {entry.key!r} of the map {self.name!r} is {error.message}",
                hint="was the map's type changed? give new fields defaults, or use a new map name",
            ) from error

    def _conflict(self, error: Conflict, key: str, expect: int) -> Conflict:
        return type(error)(
            f"{self.name}[{key!r}] is not at version {expect}" if expect else f"{self.name}[{key!r}] exists",
            hint="read it again and decide anew, or use update(key, fn)",
        )


@dataclass(frozen=True, slots=True)
class _News:
    key: str
    value: bytes | None
    version: int


def _news(batch: Batch, known: dict[str, int]) -> Iterator[_News]:
    """Yield what `batch` tells beyond `known` (versions by key), and bring `known` up to date."""
    for change in batch.changes:
        if change.value is None:
            if known.pop(change.key, None) is not None:
                yield _News(change.key, None, change.version)
        elif known.get(change.key, ABSENT) < change.version:
            known[change.key] = change.version
            yield _News(change.key, change.value, change.version)
    if batch.snapshot:
        present = {change.key for change in batch.changes}
        for key in [key for key in known if key not in present]:
            del known[key]
            yield _News(key, None, batch.revision)


async def pause(seconds: float) -> None:
    """Sleep for `seconds`, or raise `DeadlineExceeded` at once if the call would be over by then."""
    deadline = current().deadline
    if deadline is not None and asyncio.get_running_loop().time() + seconds >= deadline:
        raise DeadlineExceeded(
            "the call's time was over before an attempt won its race", outcome=Outcome.NOT_APPLIED
        )
    await asyncio.sleep(seconds)
