"""Random interleavings of everything that a store can do, held against the model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from store_model import StoreModel, serial_order

from coterie.errors import CoterieError, LeaseLost, Outcome
from coterie.ports import Store
from coterie.ports.store import ABSENT, Batch, Check, Commit, Entry, Fence, Put, Watch

T = TypeVar("T")

# The same examples in every run: a failure in CI is a failure at home. `--hypothesis-seed` draws others.
SETTINGS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

LAST = "\U0010ffff"
KEYS = ["a", "ab", "b/1", "é", "\uffee", "\U00010000", LAST]
PREFIXES = ["", "a", "ab", "b/", "é", "\uffee", LAST, "none"]
LONG_S = 1000.0

key_names = st.sampled_from(KEYS)
values = st.binary(max_size=8)
# What a check expects, which lease a put names and the step of a fence's token are chosen by kind, since
# what exists is known only later. Most are such that the commit is applied.
version_kinds = st.sampled_from(["present"] * 6 + ["absent", "stale"])
lease_kinds = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 2, -1])
sketches = st.fixed_dictionaries(
    {
        "puts": st.dictionaries(key_names, st.tuples(values, lease_kinds), max_size=3),
        "deletes": st.lists(key_names, max_size=2, unique=True),
        "checks": st.dictionaries(key_names, version_kinds, max_size=2),
        "fences": st.dictionaries(st.sampled_from(["lock", "a"]), st.sampled_from([0, 0, 1, -1]), max_size=1),
    }
)


async def outcome_of(operation: Coroutine[Any, Any, T]) -> T | CoterieError:
    """Return what `operation` returns, or the error that it raises."""
    try:
        return await operation
    except CoterieError as error:
        return error


class StoreMachine(RuleBasedStateMachine):
    """Subclasses open the store. The state is one event loop, one store, its model and some watches."""

    shortest_lease_s = 0.0
    """Above how long a run takes, for a store whose time the machine does not move."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = StoreModel()
        self.ended: list[int] = []
        self.watches: list[Follower] = []
        self.marks = 0
        self.store = self.run(self.open())

    async def open(self) -> Store:
        """Open the store, with what it had when it was closed."""
        raise NotImplementedError

    def now(self) -> float:
        """Return the time by which leases end; nothing passes unless a subclass lets it."""
        return 0.0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 20))

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def sketch(self, sketch: dict[str, Any]) -> Commit:
        """Return the commit that a sketch means in the present state."""
        alive = sorted(self.model.leases)
        leases = {0: 0, 1: alive[0] if alive else 0, 2: alive[-1] if alive else 0}
        leases[-1] = self.ended[-1] if self.ended else 10**9
        wanted = {
            "present": self.model.version,
            "absent": lambda _key: ABSENT,
            "stale": lambda key: max(self.model.version(key) - 1, 1),
        }
        return Commit(
            tuple(Put(key, value, leases[lease]) for key, (value, lease) in sketch["puts"].items()),
            tuple(key for key in sketch["deletes"] if key not in sketch["puts"]),
            tuple(Check(key, wanted[kind](key)) for key, kind in sketch["checks"].items()),
            tuple(
                Fence(name, max(self.model.tokens.get(name, 0) + step, 0))
                for name, step in sketch["fences"].items()
            ),
        )

    @rule(sketch=sketches)
    def commit(self, sketch: dict[str, Any]) -> None:
        commit = self.sketch(sketch)
        reasons = self.model.reasons(commit)
        result = self.run(outcome_of(self.store.commit(commit)))
        if isinstance(result, CoterieError):
            assert type(result) in reasons, f"{commit} raised {result!r}; the model allows {reasons}"
            assert result.outcome is Outcome.NOT_APPLIED
        else:
            assert not reasons, f"{commit} was applied; the model refuses it with {reasons}"
            self.model.apply(commit, result)

    @rule(sketches=st.lists(sketches, min_size=2, max_size=4))
    def race(self, sketches: list[dict[str, Any]]) -> None:
        commits = [self.sketch(sketch) for sketch in sketches]

        async def run() -> tuple[list[int | CoterieError], list[Entry]]:
            results = await asyncio.gather(*(outcome_of(self.store.commit(commit)) for commit in commits))
            return results, list((await self.store.scan("")).entries)

        results, found = self.run(run())
        after = serial_order(self.model, commits, results, found)
        assert after is not None, f"no order of {commits} explains {results} and {found}"
        known = self.model.history
        self.model = after
        # Only the last state is surely known: the order may be one of several.
        self.model.history = {**known, after.revision: after.history[after.revision]}

    @rule(sketch=sketches, turns=st.integers(0, 6))
    def cancel(self, sketch: dict[str, Any], turns: int) -> None:
        commit = self.sketch(sketch)
        reasons = self.model.reasons(commit)

        async def run() -> int:
            task = asyncio.ensure_future(self.store.commit(commit))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return await self.store.commit(Commit())  # whatever was under way is settled before this

        revision = self.run(run())
        found = list(self.run(self.store.scan("")).entries)
        if not reasons and found != self.model.under(""):
            self.model.apply(commit, revision)
        assert found == self.model.under(""), f"a part of the cancelled {commit} is left"
        for fence in commit.fences:  # it may have been recorded without a trace: make sure of it
            top = max(fence.token, self.model.tokens.get(fence.name, 0))
            certain = Commit(fences=(Fence(fence.name, top),))
            self.model.apply(certain, self.run(self.store.commit(certain)))

    @rule(key=key_names)
    def get(self, key: str) -> None:
        assert self.run(self.store.get(key)) == self.model.entries.get(key)

    @rule(prefix=st.sampled_from(PREFIXES), after=st.sampled_from(["", *KEYS]), limit=st.integers(1, 6))
    def scan(self, prefix: str, after: str, limit: int) -> None:
        page = self.run(self.store.scan(prefix, after=after, limit=limit))
        wanted = self.model.under(prefix, after)
        assert list(page.entries) == wanted[:limit]
        assert page.more == (len(wanted) > limit)

    @rule(ttl_s=st.sampled_from([5.0, 20.0, LONG_S]))
    def grant(self, ttl_s: float) -> None:
        ttl_s = max(ttl_s, self.shortest_lease_s)
        lease = self.run(self.store.grant(ttl_s))
        assert lease > 0
        assert lease not in self.model.leases
        assert lease not in self.ended
        self.model.leases[lease] = (ttl_s, self.now() + ttl_s)

    @precondition(lambda self: self.model.leases or self.ended)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted({*self.model.leases, *self.ended[-2:]})))
        try:
            self.run(self.store.renew(lease))
        except LeaseLost:
            assert lease not in self.model.leases
        else:
            assert lease in self.model.leases, "a lease that has ended was renewed"
            ttl_s, _end = self.model.leases[lease]
            self.model.leases[lease] = (ttl_s, self.now() + ttl_s)

    @precondition(lambda self: self.model.leases or self.ended)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted({*self.model.leases, *self.ended[-2:]})))
        self.run(self.store.revoke(lease))
        if lease in self.model.leases:
            self.ended.append(lease)
        self.model.end_lease(lease)
        self.model.note(self.run(self.store.commit(Commit())))

    @precondition(lambda self: len(self.watches) < 3)
    @rule(prefix=st.sampled_from(PREFIXES))
    def watch(self, prefix: str) -> None:
        follower = Follower(prefix, self.store.watch(prefix))
        self.watches.append(follower)
        batch = self.run(anext(follower.watch))
        assert batch.snapshot
        follower.apply(batch, self.model)
        assert follower.state == self.values(prefix)

    @precondition(lambda self: self.watches)
    @rule(data=st.data())
    def catch_up(self, data: st.DataObject) -> None:
        follower = data.draw(st.sampled_from(self.watches))
        # A mark under the prefix shows when the watch has seen everything before it.
        self.marks += 1
        mark = Put(f"{follower.prefix}~", b"mark-%d" % self.marks)
        self.model.apply(Commit((mark,)), self.run(self.store.commit(Commit((mark,)))))
        while follower.state.get(mark.key) != mark.value:
            follower.apply(self.run(anext(follower.watch)), self.model)
        assert follower.state == self.values(follower.prefix)

    @precondition(lambda self: self.watches)
    @rule(data=st.data())
    def unwatch(self, data: st.DataObject) -> None:
        follower = self.watches.pop(data.draw(st.integers(0, len(self.watches) - 1)))
        self.run(follower.watch.aclose())

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        assert list(self.run(self.store.scan("")).entries) == self.model.under("")

    def values(self, prefix: str) -> dict[str, bytes]:
        return {entry.key: entry.value for entry in self.model.under(prefix)}


class Follower:
    """A watch and the state that its batches lead to."""

    def __init__(self, prefix: str, watch: Watch) -> None:
        self.prefix = prefix
        self.watch = watch
        self.state: dict[str, bytes] = {}
        self.revision = -math.inf

    def apply(self, batch: Batch, model: StoreModel) -> None:
        """Apply a batch; the state that it leads to is that of its revision, where that is known."""
        assert batch.revision >= self.revision
        if batch.snapshot:
            self.state.clear()
        for change in batch.changes:
            assert change.key.startswith(self.prefix)
            if change.value is None:
                self.state.pop(change.key, None)
            else:
                self.state[change.key] = change.value
        self.revision = batch.revision
        known = model.history.get(batch.revision)
        if known is not None:
            wanted = {key: value for key, value in known.items() if key.startswith(self.prefix)}
            assert self.state == wanted, f"at revision {batch.revision}"
