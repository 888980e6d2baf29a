"""One effect and one reply for all calls with the same idempotency key, kept on the Store.

Of each key there is at most one record:

    (absent)  somebody claims it                          -> CLAIMED, under the lease of its node
    CLAIMED   the method returned, or a declared error    -> KEPT, until its retention is over
    CLAIMED   it failed otherwise, or its time was over    -> (absent)
    CLAIMED   the node died: its lease ends               -> (absent)
    KEPT      its retention is over                       -> (absent)

Whoever finds CLAIMED waits, whoever finds KEPT has the reply. A caller that leaves does not cancel the
method: its reply is for the next one. What a node did before it died, or a method before its time was over,
may have had an effect, and a duplicate runs the method again: at least once. The same goes for a method
that returned when the store could not be told. So nobody has a reply before the store has it: a method whose
reply anyone has runs no more.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from ..context import current
from ..errors import (
    Conflict,
    CorruptData,
    CoterieError,
    KeyReused,
    LeaseLost,
    Outcome,
    TooLarge,
    Unavailable,
)
from ..ports.entropy import Entropy
from ..ports.store import ABSENT, Check, Commit, Put, Store
from ..ports.wire import Failure
from ..resilience.keys import check_key
from ..telemetry import Counter
from .registry import ErrorRegistry
from .spec import MethodSpec

__all__ = ["MAX_ENDINGS", "ReplyLedger"]

_log = logging.getLogger("coterie.services")

_BUCKETS = 24
"""Replies are kept up to a part of so many longer than promised, so that many share one lease."""
MAX_ENDINGS = 1000
"""While so many claims wait for the store to hear of their end, no new ones are made."""
_STRAGGLING_S = 10.0
"""For so long a claim without an answer may still come: longer than any engine lets a commit take."""


class _Record(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What is stored under a key: a claim while `reply` and `failure` are None."""

    digest: bytes
    """Of the arguments."""
    claim: str
    """Tells claims of one key apart."""
    reply: bytes | None = None
    failure: tuple[str, str, str, str, bytes] | None = None
    """Code, message, hint, outcome and detail of a declared error."""

    @property
    def kept(self) -> bool:
        return self.reply is not None or self.failure is not None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


class _Ending:
    """How a claim ends: with a record, or by being given up."""

    __slots__ = ("claim", "final", "stored", "until", "version")

    def __init__(
        self,
        stored: str,
        claim: str,
        version: int | None,
        final: _Record | None,
        until: float = -math.inf,
    ) -> None:
        self.stored = stored
        self.claim = claim
        self.version = version
        """Of the claim, or None if it is not known whether it was stored."""
        self.final = final
        self.until = until
        """Until when a claim that is not there may still come."""


class ReplyLedger:
    """The replies of one app's idempotent methods, as one node keeps and finds them.

    `claim_s` is the time after which a duplicate takes over from a node that died; `retention_s` is how
    long a reply is kept at least.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        *,
        errors: ErrorRegistry,
        entropy: Entropy,
        retention_s: float = 86400.0,
        claim_s: float = 3.0,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._errors = errors
        self._entropy = entropy
        least_s = store.guarantees.min_lease_s
        self._retention_s = retention_s
        self._bucket_s = max(retention_s / _BUCKETS, least_s)
        self._claim_s = max(claim_s, least_s)
        self._time = asyncio.get_running_loop().time
        self._claims = 0
        self._claim_lease = 0
        self._keep_lease = 0
        self._keep_until = 0.0
        self._granting = asyncio.Lock()
        self._endings: deque[_Ending] = deque()
        self._making: set[asyncio.Task[bytes]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False
        self.events: Counter = Counter(
            "coterie_idempotent_calls_total",
            "Calls with an idempotency key: run, replayed, waited for another, refused for other arguments.",
            ("method", "event"),
        )

    async def run(
        self,
        method: MethodSpec,
        key: str,
        arguments: tuple[Any, ...],
        work: Callable[[], Coroutine[Any, Any, bytes]],
    ) -> bytes:
        """Return the reply of the first call with `key`, which may be this one: then `work` makes it.

        Raises `KeyReused` when that one had other arguments, the declared error that it ended with, and
        whatever `work` raises.
        """
        # With the length no key is the beginning of another, so that each is watched alone.
        stored = self._prefix + f"{method.target}/{len(check_key(key))}:{key}"
        digest = hashlib.blake2b(method.canonical(arguments), digest_size=16).digest()
        while True:
            self._claims += 1  # First, so that the lease is kept up from now on.
            try:
                claim = _Record(digest, self._entropy.identifier())
                version = await self._claim(stored, claim)
                if version is not None:
                    self.events.add((method.target, "run"))
                    making = asyncio.create_task(self._make(stored, claim, version, work))
                    self._making.add(making)
                    making.add_done_callback(self._made)
                    return await asyncio.shield(making)
            finally:
                self._claims -= 1
            record = await self._settled(method, stored, digest)
            if record is not None:
                self.events.add((method.target, "replayed"))
                return self._replayed(record)

    @property
    def pending(self) -> int:
        """How many claims ended of which the store has not heard yet."""
        return len(self._endings)

    async def _claim(self, stored: str, claim: _Record) -> int | None:
        """Claim a key and return the version of the claim, or None if there is a record already."""
        if len(self._endings) >= MAX_ENDINGS:
            raise Unavailable(
                f"{len(self._endings)} idempotent calls wait for a store that does not answer",
                outcome=Outcome.NOT_APPLIED,
            )
        while True:
            lease = await self._claiming()
            put = Put(stored, _encode(claim), lease)
            try:
                return await self._store.commit(Commit((put,), (), (Check(stored, ABSENT),)))
            except LeaseLost:
                self._claim_lease = 0
            except Conflict:
                return None
            except asyncio.CancelledError:
                self._disown(stored, claim)
                raise
            except Unavailable as error:
                if error.outcome is Outcome.UNKNOWN:
                    self._disown(stored, claim)
                    error.outcome = Outcome.NOT_APPLIED  # The method has not run.
                raise

    def _disown(self, stored: str, claim: _Record) -> None:
        """End a claim that the store may or may not have taken. Others keep the lease that it is under."""
        self._end_later(_Ending(stored, claim.claim, None, None, self._time() + _STRAGGLING_S))

    async def _make(
        self, stored: str, claim: _Record, version: int, work: Callable[[], Coroutine[Any, Any, bytes]]
    ) -> bytes:
        self._claims += 1
        try:
            async with asyncio.timeout_at(current().deadline):
                reply = await work()
        except BaseException as error:
            ending = _Ending(stored, claim.claim, version, self._failed(claim, error))
            if isinstance(error, Exception):
                if not await self._end(ending) and ending.final is not None:
                    raise self._not_kept(stored) from error
            else:  # Cancelled: there is no time to wait for the store.
                self._end_later(ending)
            raise
        else:
            final = _Record(claim.digest, claim.claim, reply)
            if not await self._end(_Ending(stored, claim.claim, version, final)):
                raise self._not_kept(stored)
            return reply
        finally:
            self._claims -= 1

    def _made(self, making: asyncio.Task[bytes]) -> None:
        self._making.discard(making)
        if not making.cancelled():
            making.exception()  # Whoever asked for it may have left.

    def _failed(self, claim: _Record, error: BaseException) -> _Record | None:
        if self._errors.find(error) is None:
            return None  # No answer: the next one tries again.
        told = self._errors.to_failure(error)
        failure = (told.code, told.message, told.hint, told.outcome.value, told.detail)
        return _Record(claim.digest, claim.claim, None, failure)

    async def _settled(self, method: MethodSpec, stored: str, digest: bytes) -> _Record | None:
        """Return the record of a key once it is kept, or None if nobody claims it any longer."""
        waited = False
        async with self._store.watch(stored) as batches:
            async for batch in batches:
                change = next((each for each in batch.changes if each.key == stored), None)
                if change is None and not batch.snapshot:
                    continue  # Of another key that begins alike.
                if change is None or change.value is None:
                    return None
                record = _read(stored, change.value)
                if record.digest != digest:
                    self.events.add((method.target, "refused"))
                    raise KeyReused(
                        f"the idempotency key of this call of {method.target} was used with other arguments",
                        hint="use a new key for each thing that is to be done once",
                    )
                if record.kept:
                    return record
                if not waited:
                    waited = True
                    self.events.add((method.target, "waited"))
        return None

    def _not_kept(self, stored: str) -> Unavailable:
        target = stored.removeprefix(self._prefix).partition("/")[0]
        return Unavailable(
            f"{target} has run, but the store did not take its reply",
            outcome=Outcome.UNKNOWN,
            hint="call it again with the same key: it has the first reply, or runs anew",
        )

    def _replayed(self, record: _Record) -> bytes:
        if record.failure is not None:
            code, message, hint, outcome, detail = record.failure
            raise self._errors.from_failure(
                Failure(code, message, hint=hint, outcome=Outcome(outcome), detail=detail)
            )
        assert record.reply is not None  # noqa: S101 - it is kept
        return record.reply

    # Leases, and claims whose end the store has not heard of yet.

    async def _claiming(self) -> int:
        async with self._granting:
            if not self._claim_lease:
                self._claim_lease = await self._store.grant(self._claim_s)
                self._wake()
            return self._claim_lease

    async def _keeping(self) -> int:
        async with self._granting:
            if self._time() >= self._keep_until:
                self._keep_lease = await self._store.grant(self._retention_s + self._bucket_s)
                self._keep_until = self._time() + self._bucket_s
            return self._keep_lease

    async def _end(self, ending: _Ending) -> bool:
        """Let a claim end, now or later; return whether it certainly has, with the record that it should."""
        try:
            return await self._try_to_end(ending)
        except LeaseLost:
            self._keep_until = 0.0
        except CoterieError as error:
            _log.warning("the reply of %s is not kept yet: %s", ending.stored, error)
        self._end_later(ending)
        return False

    def _end_later(self, ending: _Ending) -> None:
        self._endings.append(ending)
        self._wake()

    async def _try_to_end(self, ending: _Ending) -> bool:
        """Let the claim end; return False if it is not there any more. Safe to repeat."""
        stored, final, version = ending.stored, ending.final, ending.version
        if version is None:
            entry = await self._store.get(stored)
            if entry is None or _read(stored, entry.value).claim != ending.claim:
                return False
            version = entry.version
        check = (Check(stored, version),)
        with suppress(Conflict):  # Then it has ended already: here, or with its lease.
            if final is None:
                await self._store.commit(Commit((), (stored,), check))
                return True
            lease = await self._keeping()
            try:
                await self._store.commit(Commit((Put(stored, _encode(final), lease),), (), check))
            except TooLarge as error:
                short = _without_reply(final, error)
                await self._store.commit(Commit((Put(stored, _encode(short), lease),), (), check))
            return True
        return False

    def _wake(self) -> None:
        if not self._closed and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.create_task(self._keep(), name="coterie-reply-ledger")

    async def _keep(self) -> None:
        """Renew the lease of the claims and tell the store of claims that ended, as long as there are any."""
        while True:
            await self._settle()
            if not self._claims and not self._endings and not self._claim_lease:
                return
            await asyncio.sleep(self._claim_s / 4)
            if not self._claim_lease:
                continue
            if not self._claims and not self._endings:
                self._claim_lease = 0  # Nothing is claimed: it may end by itself.
                continue
            try:
                await self._store.renew(self._claim_lease)
            except LeaseLost:
                _log.warning(
                    "the lease of idempotent calls under way was lost: duplicates may run them again"
                )
                self._claim_lease = 0
            except CoterieError as error:
                _log.warning("could not renew the lease of idempotent calls under way: %s", error)

    async def _settle(self) -> None:
        """Tell the store of claims that ended, but not for so long that the lease is not renewed in time."""
        until = self._time() + self._claim_s / 4
        for _ in range(len(self._endings)):
            ending, failing = self._endings[0], False
            try:
                over = await self._try_to_end(ending) or self._time() >= ending.until
            except LeaseLost:
                self._keep_until, over = 0.0, False
            except CoterieError:
                failing, over = True, False
            self._endings.popleft()
            if not over:
                self._endings.append(ending)
            if failing or self._time() >= until:
                return

    async def release(self) -> None:
        """Give up what is claimed, so that duplicates elsewhere need not wait for the lease to end."""
        lease, self._claim_lease = self._claim_lease, 0
        if lease:
            with suppress(CoterieError):  # The lease ends by itself.
                await self._store.revoke(lease)

    async def drain(self, timeout_s: float) -> None:
        """Wait for the methods that run on although their callers have left."""
        if self._making:
            await asyncio.wait(self._making, timeout=timeout_s)

    async def close(self) -> None:
        """Stop what runs in the background, and say nothing to the store any more. Idempotent."""
        self._closed = True
        tasks = [*self._making, *([self._keeper] if self._keeper else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _without_reply(final: _Record, error: TooLarge) -> _Record:
    message = f"the first reply cannot be repeated: {error.message}"
    failure = (TooLarge.code, message, "", Outcome.UNKNOWN.value, b"")
    return _Record(final.digest, final.claim, None, failure)


def _read(stored: str, value: bytes) -> _Record:
    try:
        return _decode(value)
    except msgspec.DecodeError as error:
        raise CorruptData(f"the entry {stored!r} is no record of an idempotent call: {error}") from error
