"""Stores that each lack one safeguard: the docstring says which, `caught_by` which check must see it."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

from coterie.engines.memory.watches import MemoryWatch
from coterie.errors import Conflict, CoterieError, LeaseLost
from coterie.ports.store import Batch, Change, Commit, Entry, Page, Put, StoreGuarantees, Watch

from ..standin import DiskStore


class Mutant(DiskStore):
    """A store that is broken on purpose."""

    caught_by = ""
    watch_type: type[MemoryWatch] = MemoryWatch

    def watch(self, prefix: str) -> Watch:
        return self.watch_type(self, prefix)


class NoChecks(Mutant):
    """Checks are not looked at."""

    caught_by = "a_stale_check_refuses_the_commit"

    def _demand(self, commit: Commit) -> None:
        super()._demand(replace_commit(commit, checks=()))


class OnlyChecksOfWrittenKeys(Mutant):
    """A check of a key that the commit does not write is not looked at."""

    caught_by = "a_check_may_name_a_key_that_is_not_written"

    def _demand(self, commit: Commit) -> None:
        written = {put.key for put in commit.puts} | set(commit.deletes)
        checks = tuple(check for check in commit.checks if check.key in written)
        super()._demand(replace_commit(commit, checks=checks))


class NoChecksWithoutWrites(Mutant):
    """A commit of checks alone is taken for nothing to do."""

    caught_by = "a_commit_of_checks_is_a_read"

    async def commit(self, commit: Commit) -> int:
        if not commit.puts and not commit.deletes and not commit.fences:
            return self._revision
        return await super().commit(commit)


class WritesBeforeItChecks(Mutant):
    """A refused commit leaves its puts behind."""

    caught_by = "a_refused_commit_changes_nothing"

    def _demand(self, commit: Commit) -> None:
        try:
            super()._demand(commit)
        except Conflict:
            self._write(commit)
            raise


class ChecksBeforeItWaits(Mutant):
    """Others may write between the check and the write."""

    caught_by = "compare_and_set_loses_no_update"

    async def commit(self, commit: Commit) -> int:
        self.refresh()
        self._demand(commit)
        await super().commit(Commit(fences=commit.fences))
        return self._write(commit)


class WritesKeyByKey(Mutant):
    """Others may read between the keys of a commit."""

    caught_by = "readers_never_see_half_a_commit"

    async def commit(self, commit: Commit) -> int:
        revision = await super().commit(replace_commit(commit, puts=()))
        for put in commit.puts:
            revision = await super().commit(Commit((put,)))
        return revision


class StopsHalfWay(Mutant):
    """A commit that is cancelled leaves a part behind."""

    caught_by = "a_cancelled_commit_is_applied_whole_or_not"

    async def commit(self, commit: Commit) -> int:
        revision = await super().commit(replace_commit(commit, puts=commit.puts[:1]))
        await asyncio.sleep(0)
        if len(commit.puts) > 1:
            self._revision -= 1
            revision = self._write(Commit(commit.puts))
        return revision


class OneFailsAll(Mutant):
    """A refused commit takes those with it that are under way at the same time."""

    caught_by = "refused_commits_do_not_touch_their_neighbours"
    failing = False

    async def commit(self, commit: Commit) -> int:
        try:
            return await super().commit(commit)
        except Conflict:
            self.failing = True
            asyncio.get_running_loop().call_soon(setattr, self, "failing", False)
            raise

    def _demand(self, commit: Commit) -> None:
        if self.failing:
            raise Conflict("a neighbour failed")
        super()._demand(commit)


class FencesIgnored(Mutant):
    """Fences are not looked at."""

    caught_by = "a_fence_refuses_earlier_tokens"

    def _demand(self, commit: Commit) -> None:
        super()._demand(replace_commit(commit, fences=()))


class FencesGoBack(Mutant):
    """A fence records the last token, though a refused one was greater."""

    caught_by = "a_refused_commit_records_no_fence"

    def _demand(self, commit: Commit) -> None:
        for fence in commit.fences:
            self._tokens[fence.name] = max(fence.token, self._tokens.get(fence.name, 0))
        super()._demand(commit)


class FencesOnlyWithWrites(Mutant):
    """A fence is recorded only by a commit that writes."""

    caught_by = "a_fence_is_recorded_without_writes"

    async def commit(self, commit: Commit) -> int:
        before = dict(self._tokens)
        revision = await super().commit(commit)
        if not commit.puts and not commit.deletes:
            self._tokens.clear()
            self._tokens.update(before)
        return revision


class FencesAreKeys(Mutant):
    """A fence shows as an entry."""

    caught_by = "fences_and_keys_do_not_mix"

    async def commit(self, commit: Commit) -> int:
        revision = await super().commit(commit)
        for fence in commit.fences:
            self._place(Entry(fence.name, b"%d" % fence.token, revision))
        return revision


class VersionPerKey(Mutant):
    """Each key counts its own versions."""

    caught_by = "versions_rise_over_the_whole_store"

    def _write(self, commit: Commit) -> int:
        super()._write(commit)
        version = 0
        for put in commit.puts:
            known = self.disk.objects.setdefault("counts", {})
            version = known[put.key] = known.get(put.key, 0) + 1
            self._place(Entry(put.key, put.value, version, put.lease))
        return version


class VersionPerPut(Mutant):
    """The keys of one commit get versions one after the other."""

    caught_by = "one_commit_has_one_revision"

    def _write(self, commit: Commit) -> int:
        revision = super()._write(commit)
        for put in commit.puts[1:]:
            self._revision = revision = revision + 1
            self._place(Entry(put.key, put.value, revision, put.lease))
        return revision


class VersionStartsAnew(Mutant):
    """A key that is deleted and put again counts from the newest entry that is left."""

    caught_by = "a_deleted_key_is_absent"

    def _write(self, commit: Commit) -> int:
        revision = super()._write(commit)
        if commit.deletes:
            self.disk.revision = max((entry.version for entry in self._entries.values()), default=0)
        return revision


class StaleGet(Mutant):
    """A get may return what was there a turn of the loop ago."""

    caught_by = "operations_are_linearizable"

    async def get(self, key: str) -> Entry | None:
        entry = await super().get(key)
        for _ in range(3):
            await asyncio.sleep(0)
        return entry if entry is None or entry.version % 7 else await self._old(entry)

    async def _old(self, entry: Entry) -> Entry:
        return self.disk.objects.setdefault("old", {}).setdefault(entry.key, entry)


class OwnCache(Mutant):
    """A client reads its own writes, but those of others only when it writes itself."""

    caught_by = "get_returns_the_committed_entry"

    async def get(self, key: str) -> Entry | None:
        cache = self.__dict__.setdefault("cache", {})
        if key not in cache:
            cache[key] = await super().get(key)
        return cache[key]

    async def commit(self, commit: Commit) -> int:
        self.__dict__.pop("cache", None)
        return await super().commit(commit)


class TextValues(Mutant):
    """Values go through a text column."""

    caught_by = "values_are_kept_byte_for_byte"

    def _place(self, entry: Entry) -> None:
        text = entry.value.split(b"\0")[0] if len(entry.value) > 1 else entry.value
        super()._place(Entry(entry.key, text, entry.version, entry.lease))


class NormalisedKeys(Mutant):
    """Keys are stored in Unicode's composed form."""

    caught_by = "keys_are_told_apart_exactly"

    async def get(self, key: str) -> Entry | None:
        entry = await super().get(unicodedata.normalize("NFC", key))
        return entry and Entry(key, entry.value, entry.version, entry.lease)

    async def commit(self, commit: Commit) -> int:
        puts = tuple(Put(unicodedata.normalize("NFC", put.key), put.value, put.lease) for put in commit.puts)
        return await super().commit(replace_commit(commit, puts=puts))


class AnySize(Mutant):
    """The declared limits are not kept."""

    caught_by = "limits_are_exact"

    @property
    def guarantees(self) -> StoreGuarantees:
        return replace(super().guarantees, max_key_bytes=512, max_value_bytes=65536)


class FewKeys(Mutant):
    """A commit of more keys than declared is taken."""

    caught_by = "the_number_of_keys_is_limited"

    @property
    def guarantees(self) -> StoreGuarantees:
        return replace(super().guarantees, max_commit_keys=16)


class SaysItTakesOne(Mutant):
    """A store that declares one key a commit writes several."""

    caught_by = "several_keys_are_refused"

    @property
    def guarantees(self) -> StoreGuarantees:
        return replace(super().guarantees, multi_key_commit=False)


class Utf16Order(Mutant):
    """Keys are in the order of UTF-16, as in some databases."""

    caught_by = "a_scan_is_in_order_of_code_points"

    def _under(self, prefix: str, after: str = "") -> Iterator[Entry]:
        found = super()._under(prefix, after)
        return iter(sorted(found, key=lambda entry: entry.key.encode("utf-16-be")))


class FoldsCase(Mutant):
    """A prefix matches without regard to case, as LIKE does in SQLite."""

    caught_by = "a_scan_finds_its_prefix_and_nothing_else"

    def _under(self, prefix: str, after: str = "") -> Iterator[Entry]:
        for entry in super()._under("", after):
            if entry.key.lower().startswith(prefix.lower()):
                yield entry


class PrefixBound(Mutant):
    """A prefix is bounded by the prefix followed by the last code point."""

    caught_by = "prefixes_may_end_at_the_last_code_point"

    def _under(self, prefix: str, after: str = "") -> Iterator[Entry]:
        for entry in super()._under(prefix, after):
            if not prefix or entry.key < prefix + "\U0010ffff":
                yield entry


class AlwaysMore(Mutant):
    """A full page says that others follow."""

    caught_by = "pages_cover_every_entry_once"

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        page = await super().scan(prefix, after=after, limit=limit)
        return Page(page.entries, page.revision, more=len(page.entries) == limit)


class AfterIncluded(Mutant):
    """`after` is a place to begin at, not after."""

    caught_by = "after_excludes_its_key"

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        page = await super().scan(prefix, after=after, limit=limit)
        entry = self._entries.get(after)
        if entry is None or not after.startswith(prefix):
            return page
        return Page((entry, *page.entries), page.revision, page.more)


class AnyLimit(Mutant):
    """The limit of a scan is not looked at."""

    caught_by = "the_limit_has_bounds"

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        return await super().scan(prefix, after=after, limit=min(max(limit, 1), 10_000))


class LateRevision(Mutant):
    """A page claims the revision of the moment when it is returned, not of its view."""

    caught_by = "a_page_is_no_older_than_its_revision"

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        page = await super().scan(prefix, after=after, limit=limit)
        for _ in range(3):
            await asyncio.sleep(0)
        return Page(page.entries, self._revision, page.more)


class ShortLeases(Mutant):
    """A lease ends before its time."""

    caught_by = "entries_vanish_with_their_lease"

    async def grant(self, ttl_s: float) -> int:
        return await super().grant(max(ttl_s * 0.7, 0.05))


class EntriesStay(Mutant):
    """The entries of an ended lease stay."""

    caught_by = "revoking_deletes_the_entries_now"

    def _end(self, lease: int) -> None:
        self._leases.pop(lease)


class EntriesOverstay(Mutant):
    """The first entry of an ended lease stays, as if each were deleted by a call of its own."""

    caught_by = "a_watch_sees_a_lease_revoked"

    def _end(self, lease: int) -> None:
        for key in self._leases.pop(lease):
            self._revision += 1
            self._publish(self._remove((key,)))


class RenewsNothing(Mutant):
    """Renewing gives no time."""

    caught_by = "a_renewed_lease_lives_on"

    async def renew(self, lease: int) -> None:
        self.refresh()
        if lease not in self._leases:
            raise LeaseLost(f"the lease {lease} has ended")


class RenewsTheDead(Mutant):
    """Renewing an ended lease seems to work."""

    caught_by = "an_ended_lease_cannot_be_renewed"

    async def renew(self, lease: int) -> None:
        self.refresh()
        if lease in self._leases:
            await super().renew(lease)


class DeadLeasesWrite(Mutant):
    """A put with an ended lease is applied without one."""

    caught_by = "an_ended_lease_refuses_puts"

    async def commit(self, commit: Commit) -> int:
        puts = (Put(put.key, put.value, put.lease if put.lease in self._leases else 0) for put in commit.puts)
        return await super().commit(replace_commit(commit, puts=tuple(puts)))


class FirstLeaseWins(Mutant):
    """A key stays with the first lease that it was put with."""

    caught_by = "a_put_decides_the_lease_anew"

    def _place(self, entry: Entry) -> None:
        owners = [lease.keys for lease in self._leases._leases.values() if entry.key in lease.keys]
        super()._place(entry)
        for keys in owners:
            keys[entry.key] = None

    def _remove(self, keys: object) -> list[Change]:
        return super()._remove([key for key in keys if key in self._entries])  # type: ignore[attr-defined]


class LeasesOfOneClient(Mutant):
    """A lease ends with the client that it was granted to."""

    caught_by = "a_lease_outlives_the_client_that_asked"

    async def grant(self, ttl_s: float) -> int:
        lease = await super().grant(ttl_s)
        self.__dict__.setdefault("own", []).append(lease)
        return lease

    async def close(self) -> None:
        for lease in self.__dict__.pop("own", []):
            self._end(lease)
        await super().close()


class LeaseIdsOfOneClient(Mutant):
    """Each client counts its own leases."""

    caught_by = "lease_ids_are_unique"

    async def grant(self, ttl_s: float) -> int:
        lease = await super().grant(ttl_s)
        count = self.__dict__["count"] = self.__dict__.get("count", 0) + 1
        return lease if len(self._entries) else count


class AnyLeaseTime(Mutant):
    """A lease time that makes no sense is mended in silence."""

    caught_by = "impossible_lease_times_are_refused"

    async def grant(self, ttl_s: float) -> int:
        return await super().grant(ttl_s if 0.05 <= ttl_s < 1e9 else 1.0)


class LostBatches(MemoryWatch):
    def offer(self, batch: Batch) -> None:
        if batch.revision % 5:
            super().offer(batch)


class WatchLosesBatches(Mutant):
    """Now and then a watch misses a commit."""

    caught_by = "a_watch_misses_no_newest_state"
    watch_type = LostBatches


class HalfBatches(MemoryWatch):
    def offer(self, batch: Batch) -> None:
        for change in batch.changes:
            super().offer(Batch(batch.revision, (change,)))


class WatchSplitsCommits(Mutant):
    """A watch shows the changes of a commit one by one."""

    caught_by = "a_batch_never_splits_a_commit"
    watch_type = HalfBatches


class ForgetfulBuffer(MemoryWatch):
    def offer(self, batch: Batch) -> None:
        if len(self._buffer) < 40:
            super().offer(batch)


class WatchDropsTheOverflow(Mutant):
    """A full buffer drops what is new, without a snapshot."""

    caught_by = "a_slow_watcher_catches_up"
    watch_type = ForgetfulBuffer


class NoSnapshot(MemoryWatch):
    async def __anext__(self) -> Batch:
        if self._needs_snapshot and not self._closed:
            self._store.refresh()
            self._store.follow(self)
            self._needs_snapshot = False
        return await super().__anext__()


class WatchWithoutSnapshot(Mutant):
    """A watch begins with the first change after it."""

    caught_by = "a_watch_begins_with_a_snapshot"
    watch_type = NoSnapshot


class WatchShowsAllKeys(Mutant):
    """The snapshot of a watch does not look at the prefix."""

    caught_by = "a_watch_begins_with_a_snapshot"

    def snapshot(self, prefix: str) -> Batch:
        return super().snapshot(prefix[:1])


class Newest(MemoryWatch):
    def offer(self, batch: Batch) -> None:
        self._buffer.appendleft(batch)
        self._buffered += len(batch.changes)
        self._news.set()


class WatchOutOfOrder(Mutant):
    """A watch shows the newest commit first."""

    caught_by = "changes_follow_in_order"
    watch_type = Newest


class WatchMissesLeases(Mutant):
    """Entries that vanish with their lease are no news to a watch."""

    caught_by = "a_watch_sees_a_lease_end"

    def _end(self, lease: int) -> None:
        keys = self._leases.pop(lease)
        if keys:
            self._revision += 1
            self._remove(keys)


class NoTimer(Mutant):
    """A lease ends only when someone looks."""

    caught_by = "a_watch_sees_a_lease_end"

    def _set_timer(self) -> None:
        pass


class TakesBeforeItWaits(MemoryWatch):
    async def __anext__(self) -> Batch:
        batch = await super().__anext__()
        await asyncio.sleep(0)
        return batch


class WatchLosesWhatWasCancelled(Mutant):
    """A batch is gone when the call that was to return it is cancelled."""

    caught_by = "giving_up_waiting_loses_nothing"
    watch_type = TakesBeforeItWaits


class DeafClose(MemoryWatch):
    async def aclose(self) -> None:
        self._closed = True
        self._store.unfollow(self)


class WatchWaitsOn(Mutant):
    """`aclose` does not wake who waits."""

    caught_by = "closing_ends_a_waiting_watch"
    watch_type = DeafClose


class OneWatchAPrefix(Mutant):
    """A later watch of the same prefix takes the place of the first."""

    caught_by = "many_watches_see_each_commit"

    def follow(self, watch: MemoryWatch) -> None:
        for known in [known for known in self._watches if known.prefix == watch.prefix]:
            del self._watches[known]
        super().follow(watch)


class ClosedButReads(Mutant):
    """A closed store goes on answering."""

    caught_by = "a_closed_store_refuses_everything"

    async def get(self, key: str) -> Entry | None:
        return self._entries.get(key)


class WatchesOutliveTheStore(Mutant):
    """Closing the store leaves its watches waiting."""

    caught_by = "closing_the_store_ends_its_watches"

    async def close(self) -> None:
        self._closed = True


class CommitsHangAtClose(Mutant):
    """A commit that is under way when the store is closed never returns."""

    caught_by = "commits_under_way_end_with_the_store"

    async def commit(self, commit: Commit) -> int:
        try:
            return await super().commit(commit)
        except CoterieError:
            if self._closed:
                await asyncio.Event().wait()
            raise


class ClosesEveryone(Mutant):
    """Closing one client ends the watches of the others."""

    caught_by = "closing_one_client_leaves_the_others"

    async def close(self) -> None:
        await super().close()
        self._watches.clear()


class ForgetsTheLast(Mutant):
    """The last commit before a reopening is lost."""

    caught_by = "acknowledged_commits_outlive_a_reopening"

    async def commit(self, commit: Commit) -> int:
        before = dict(self._entries)
        revision = await super().commit(commit)
        self.disk.objects["before"] = before
        return revision

    async def close(self) -> None:
        await super().close()
        before = self.disk.objects.get("before")
        if before is not None and all(watch._store._closed for watch in self._watches):
            self._entries.clear()
            self._entries.update(before)
            self._keys[:] = sorted(before)


class ForgetsFences(Mutant):
    """Tokens are kept in memory only."""

    caught_by = "acknowledged_commits_outlive_a_reopening"

    async def close(self) -> None:
        await super().close()
        self._tokens.clear()


class ForgetsRevisions(Mutant):
    """After a reopening revisions go on from the newest entry."""

    caught_by = "acknowledged_commits_outlive_a_reopening"

    async def close(self) -> None:
        await super().close()
        self.disk.revision = max((entry.version for entry in self._entries.values()), default=0)


class ForgetsLeases(Mutant):
    """After a reopening no lease is known, and their entries stay."""

    caught_by = "leases_outlive_a_reopening"

    async def close(self) -> None:
        await super().close()
        for lease in list(self._leases._leases):
            self._leases.pop(lease)


class AcknowledgesTooEarly(Mutant):
    """A commit is acknowledged before it is safe from the close."""

    caught_by = "a_close_keeps_what_it_acknowledged"

    async def commit(self, commit: Commit) -> int:
        revision = await super().commit(commit)
        self.disk.objects.setdefault("unsaved", []).append(commit)
        return revision

    async def close(self) -> None:
        await super().close()
        for commit in self.disk.objects.pop("unsaved", [])[-1:]:
            self._remove([put.key for put in commit.puts if put.key in self._entries])


def replace_commit(commit: Commit, **changes: object) -> Commit:
    fields = {name: getattr(commit, name) for name in commit.__struct_fields__}
    return Commit(**{**fields, **changes})  # type: ignore[arg-type]


MUTANTS = Mutant.__subclasses__()
