"""Configuration that all nodes share: typed, watched, validated before it is accepted, with its history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from ..codec import Codec, codec_for, type_name
from ..context import current, note_failure
from ..errors import (
    Conflict,
    CoterieError,
    InvalidArgument,
    InvalidConfiguration,
    NotFound,
    NotRunning,
)
from ..ports.entropy import Entropy
from ..ports.store import ABSENT, Check, Commit, Entry, Put, Store
from ._names import checked_name, quoted
from .coordination import Coordination, bound

__all__ = ["Settings", "SettingsFeed", "SettingsVersion"]

_log = logging.getLogger("coterie.coordination")
_ATTEMPTS = 50

M = TypeVar("M")


class _Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is stored: the encoded value, and who set it when."""

    number: int
    value: bytes
    node: str = ""
    at: float = 0.0
    note: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


@dataclass(frozen=True, slots=True)
class SettingsVersion(Generic[M]):
    """One version of a configuration. Version 0 is what the model's defaults say."""

    number: int
    value: M
    node: str = ""
    """Who set it."""
    at: float = 0.0
    """When, in seconds since 1970, by the clock of that node; for people."""
    note: str = ""
    """Why."""


class SettingsFeed(Generic[M]):
    """What a node knows of a configuration: the newest version that it could accept."""

    def __init__(self, settings: Settings[M], store: Store, key: str, entropy: Entropy) -> None:
        self.newest: SettingsVersion[M] = SettingsVersion(0, settings.default)
        self.rejected: str = ""
        """Why the version in the Store is not accepted here; empty when it is."""
        self._settings = settings
        self._store = store
        self._key = key
        self._entropy = entropy
        self._changed = asyncio.Event()

    def accept(self, value: bytes | None) -> None:
        """Take over what the Store says, if it is valid for this program."""
        self.rejected = ""
        try:
            newest = self._settings.read(value)
        except CoterieError as error:
            # Another node runs a newer program. What worked so far is better than nothing.
            self.rejected = error.message
            _log.error("%s: kept version %d: %s", self._settings, self.newest.number, error)
            return
        if value is not None and newest.number < self.newest.number:
            return  # Older news than this node's own.
        if newest != self.newest:
            self.newest = newest
            self._changed.set()
            self._changed = asyncio.Event()

    async def wait_changed(self) -> None:
        await self._changed.wait()

    async def start(self) -> None:
        """Read the present version. Raises `Unavailable` when the Store cannot be read."""
        entry = await self._store.get(self._key)
        self.accept(None if entry is None else entry.value)

    async def follow(self) -> None:
        """Keep up to date, for ever."""
        while True:
            try:
                async with aclosing(self._store.watch(self._key)) as batches:
                    async for batch in batches:
                        for change in batch.changes:
                            self.accept(change.value)
            except CoterieError as error:
                _log.warning("%s may be out of date: %s", self._settings, error)
            await asyncio.sleep(0.1 + 0.4 * self._entropy.random())


class Settings(Generic[M]):
    """A configuration of type `model`, declared with `app.config(Model)`.

    `current` is a look at memory. `set` and `update` check the new value, by its type and by `validate`,
    before anything is written, and every node checks it again before it goes by it.
    """

    def __init__(
        self,
        model: type[M],
        *,
        name: str | None = None,
        validate: Callable[[M], None] | None = None,
        keep: int = 50,
    ) -> None:
        if not 1 <= keep <= 1000:
            raise InvalidConfiguration(f"keep must be between 1 and 1,000 versions, not {keep}")
        self.name: str = checked_name("a configuration", model.__name__ if name is None else name)
        self.model: type[M] = model
        self._validate = validate
        self._keep = keep
        self._codec: Codec[M] = codec_for(model)
        try:
            self.default: M = model()
            """What is so before anybody has set anything."""
        except TypeError as error:
            raise InvalidConfiguration(
                f"{type_name(model)} cannot be a configuration: {error}",
                hint="give every field a default: it is what holds before anybody sets anything",
            ) from error
        self._checked(self.default)

    def __repr__(self) -> str:
        return f"Settings({self.name!r}, {type_name(self.model)})"

    @property
    def current(self) -> M:
        """What this node goes by now: the newest version that it has heard of and accepts."""
        return self._feed().newest.value

    @property
    def number(self) -> int:
        """The version of `current`; 0 when nobody has set anything."""
        return self._feed().newest.number

    @property
    def rejected(self) -> str:
        """Why this node does not go by the newest version in the Store; empty when it does."""
        return self._feed().rejected

    async def get(self) -> SettingsVersion[M]:
        """Return the newest version, from the Store; raise `InvalidArgument` when it is not valid here."""
        entry = await bound().store.get(self._key(bound()))
        return self.read(None if entry is None else entry.value)

    async def set(self, value: M, *, note: str = "", expect: int | None = None) -> SettingsVersion[M]:
        """Make `value` the newest version; with `expect`, only if the newest is that number.

        Raises `InvalidArgument` when it is not valid, `Conflict` when another was faster.
        """
        return await self._write(lambda _entry: value, note, expect)

    async def update(self, change: Callable[[M], M], *, note: str = "") -> SettingsVersion[M]:
        """Make `change(newest)` the newest version. `change` may be called several times."""

        def changed(entry: Entry | None) -> M:
            return change(self.read(None if entry is None else entry.value).value)

        return await self._write(changed, note, None)

    async def rollback(self, number: int, *, note: str = "") -> SettingsVersion[M]:
        """Set again what version `number` said; 0 is the defaults. Raises `NotFound` if it is not kept."""
        value = self.default
        if number:
            entry = await bound().store.get(self._past(bound(), number))
            if entry is None:
                raise NotFound(
                    f"{self.name}: version {number} is not kept", hint="history() has those that are"
                )
            value = self.read(entry.value).value
        return await self.set(value, note=note or f"back to version {number}")

    async def history(self) -> list[SettingsVersion[M]]:
        """Return the versions that are kept and still valid, the newest first."""
        here = bound()
        newest = self._number(await here.store.get(self._key(here)))
        # Where more were kept once, older ones may still be there.
        after = self._past(here, max(0, newest - self._keep))
        page = await here.store.scan(self._past_prefix(here), after=after, limit=self._keep + 1)
        found = []
        for entry in reversed(page.entries):
            try:
                found.append(self.read(entry.value))
            except CoterieError:
                continue  # Of another time.
        return found

    async def watch(self) -> AsyncGenerator[SettingsVersion[M], None]:
        """Yield what this node goes by, then each change. Endless; versions in between may be missed."""
        feed = self._feed()
        last = None
        while True:
            if feed.newest is not last:
                last = feed.newest
                yield last
            else:
                await feed.wait_changed()

    def feed(self, here: Coordination) -> SettingsFeed[M]:
        """Return what follows this configuration on a node."""
        return SettingsFeed(self, here.store, self._key(here), here.entropy)

    def read(self, value: bytes | None) -> SettingsVersion[M]:
        """Return a stored version; raise `InvalidArgument` when it is not valid here."""
        if value is None:
            return SettingsVersion(0, self.default)
        record = self._record(value)
        value_read = self._checked(self._codec.decode(record.value))
        return SettingsVersion(record.number, value_read, record.node, record.at, record.note)

    async def _write(
        self, change: Callable[[Entry | None], M], note: str, expect: int | None
    ) -> SettingsVersion[M]:
        here = bound()
        for attempt in range(_ATTEMPTS):
            entry = await here.store.get(self._key(here))
            newest = self._number(entry)
            if expect is not None and newest != expect:
                raise Conflict(f"{self.name} is at version {newest}, not {expect}", hint="read it again")
            encoded = self._codec.encode(self._codec.validate(change(entry)))
            # As the others will read it: a dataclass checks no types by itself.
            value = self._checked(self._codec.decode(encoded))
            record = _Record(
                number=newest + 1,
                value=encoded,
                node=here.node,
                at=here.clock.time(),
                note=note,
            )
            data = _encode(record)
            puts = (Put(self._key(here), data), Put(self._past(here, record.number), data))
            deletes = (self._past(here, record.number - self._keep),) if record.number > self._keep else ()
            check = Check(self._key(here), ABSENT if entry is None else entry.version)
            try:
                await here.store.commit(Commit(puts, deletes, (check,)))
            except Conflict:
                await asyncio.sleep(0.002 * attempt * here.entropy.random())
                continue
            except BaseException as error:
                note_failure(error)
                raise
            current().acted = True
            version = SettingsVersion(record.number, value, record.node, record.at, note)
            self._feed().accept(data)  # So that who sets it finds it set.
            return version
        raise Conflict(f"{self.name} changed during each of {_ATTEMPTS} attempts to set it")

    def _number(self, entry: Entry | None) -> int:
        return 0 if entry is None else self._record(entry.value).number

    def _record(self, value: bytes) -> _Record:
        try:
            return _decode(value)
        except msgspec.DecodeError as error:
            raise InvalidArgument(f"the configuration {self.name!r} is not readable: {error}") from error

    def _checked(self, value: M) -> M:
        if self._validate is not None:
            try:
                self._validate(value)
            except (ValueError, AssertionError) as error:
                raise InvalidArgument(f"{self.name} is not valid: {error}") from error
        return value

    def _feed(self) -> SettingsFeed[M]:
        try:
            feed: SettingsFeed[M] = current().bindings[self]
        except KeyError:
            raise NotRunning(
                f"the configuration {self.name!r} is not declared by the app that runs here",
                hint="declare it with app.config(...) before the node starts, and use the same app",
            ) from None
        return feed

    def _key(self, here: Coordination) -> str:
        return f"{here.app}/config/{quoted(self.name)}/newest"

    def _past_prefix(self, here: Coordination) -> str:
        return f"{here.app}/config/{quoted(self.name)}/past/"

    def _past(self, here: Coordination, number: int) -> str:
        return f"{self._past_prefix(here)}{number:012}"
