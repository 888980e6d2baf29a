"""Commits of one client after the other: versions, checks, fences, deletes, limits."""

from __future__ import annotations

from ...errors import Conflict, Fenced, InvalidArgument, Outcome, TooLarge
from ...ports.store import ABSENT, Check, Commit, Entry, Fence, Put
from .._expect import expect, expect_equal, raises
from ..suite import check
from .fixture import StoreFixture, contents, multi_key, put, single_key, versions

_REFUSED = Outcome.NOT_APPLIED


@check
async def an_absent_key_has_no_entry(fixture: StoreFixture) -> None:
    """A key that was never written reads as None, and the check for `ABSENT` passes."""
    expect_equal(await fixture.store.get("nobody"), None, "the entry of a key never written")
    await fixture.store.commit(Commit(checks=(Check("nobody", ABSENT),)))


@check
async def get_returns_the_committed_entry(fixture: StoreFixture) -> None:
    """A get after an acknowledged commit, by any client, returns that commit's entry."""
    other = await fixture.connect()
    for value in (b"first", b"second"):
        revision = await put(fixture.store, "key", value)
        for client in (fixture.store, other):
            expect_equal(await client.get("key"), Entry("key", value, revision), "the entry")


@check
async def versions_rise_over_the_whole_store(fixture: StoreFixture) -> None:
    """The revision of a commit is greater than that of every commit before, whatever its keys."""
    other = await fixture.connect()
    last = 0
    for round_ in range(4):
        for key in ("a", "b", f"new-{round_}"):
            for client in (fixture.store, other):
                revision = await put(client, key)
                expect(revision > last, f"revision {revision} follows {last}")
                expect_equal(await versions(client, key), [revision], f"the version of {key!r}")
                last = revision


@check(when=multi_key)
async def one_commit_has_one_revision(fixture: StoreFixture) -> None:
    """All keys that a commit writes get its revision as their version."""
    revision = await fixture.store.commit(Commit((Put("a", b"1"), Put("b", b"2"), Put("c", b"3"))))
    expect_equal(await versions(fixture.store, "a", "b", "c"), [revision] * 3, "the versions of its keys")


@check
async def values_are_kept_byte_for_byte(fixture: StoreFixture) -> None:
    """A value comes back as it was put: empty, every byte, text of any encoding."""
    values = [b"", bytes(range(256)), b"\x00", b"\xff\xfe", "é".encode("latin-1"), b"x" * 10_000]
    for index, value in enumerate(values):
        await put(fixture.store, f"key-{index}", value)
    wanted = {f"key-{index}": value for index, value in enumerate(values)}
    expect_equal(await contents(fixture.store, "key-"), wanted, "what a scan finds")
    for key, value in wanted.items():
        entry = await fixture.store.get(key)
        expect_equal(entry and entry.value, value, f"the value of {key!r}")


@check
async def keys_are_told_apart_exactly(fixture: StoreFixture) -> None:
    """Keys are equal only if all their code points are: case, accents, forms and spaces count."""
    keys = [
        "a",
        "A",
        "é",
        "e\u0301",
        "a ",
        " a",
        "a\n",
        "a'",
        'a"',
        "a%",
        "a_",
        "a\\",
        "ß",
        "ss",
        "\ufeffa",
        "😀",
    ]
    for key in keys:
        await put(fixture.store, key, key.encode(), expect=ABSENT)
    for key in keys:
        entry = await fixture.store.get(key)
        expect_equal(entry and entry.value, key.encode(), f"the value of {key!r}")


@check
async def a_stale_check_refuses_the_commit(fixture: StoreFixture) -> None:
    """A commit whose check names another version than the present one raises `Conflict`."""
    store = fixture.store
    first = await put(store, "key", b"1", expect=ABSENT)
    second = await put(store, "key", b"2", expect=first)
    for stale in (ABSENT, first, second + 1000):
        with raises(Conflict, _REFUSED, what=f"a put that expects version {stale}"):
            await put(store, "key", b"refused", expect=stale)
    with raises(Conflict, _REFUSED, what="a put that expects a version of an absent key"):
        await put(store, "other", b"refused", expect=first)
    with raises(Conflict, _REFUSED, what="a delete that expects an old version"):
        await store.commit(Commit((), ("key",), (Check("key", first),)))
    expect_equal(await contents(store), {"key": b"2"}, "the store")
    expect_equal(await versions(store, "key"), [second], "the version")


@check(when=multi_key)
async def a_refused_commit_changes_nothing(fixture: StoreFixture) -> None:
    """When one check fails, none of the commit's puts and deletes is applied."""
    store = fixture.store
    await put(store, "gone", b"1")
    await put(store, "kept", b"1")
    before = [await store.get("kept"), await store.get("gone")]
    commit = Commit(
        (Put("kept", b"2"), Put("new", b"2")), ("gone",), (Check("new", ABSENT), Check("elsewhere", 12345))
    )
    with raises(Conflict, _REFUSED):
        await store.commit(commit)
    expect_equal([await store.get("kept"), await store.get("gone")], before, "what was there before")
    expect_equal(await store.get("new"), None, "the entry of the refused put")


@check
async def a_check_may_name_a_key_that_is_not_written(fixture: StoreFixture) -> None:
    """A check guards a write of another key, which is how a transaction holds on to what it read."""
    store = fixture.store
    read = await put(store, "read", b"1")
    await store.commit(Commit((Put("written", b"1"),), (), (Check("read", read),)))
    await put(store, "read", b"2")
    with raises(Conflict, _REFUSED):
        await store.commit(Commit((Put("written", b"2"),), (), (Check("read", read),)))
    expect_equal((await contents(store))["written"], b"1", "the guarded value")


@check
async def a_commit_of_checks_is_a_read(fixture: StoreFixture) -> None:
    """A commit that writes nothing checks all the same, returns the present revision and changes nothing."""
    store = fixture.store
    version = await put(store, "key", b"1")
    revision = await store.commit(Commit(checks=(Check("key", version), Check("other", ABSENT))))
    expect(revision >= version, f"the present revision is {version}, not {revision}")
    with raises(Conflict, _REFUSED):
        await store.commit(Commit(checks=(Check("key", version), Check("other", version))))
    expect(await store.commit(Commit()) >= revision, "an empty commit goes back in time")
    expect_equal(await versions(store, "key"), [version], "the version")


@check
async def a_deleted_key_is_absent(fixture: StoreFixture) -> None:
    """After a delete the key has no entry and version 0; put again, it has a version greater than ever."""
    store = fixture.store
    first = await put(store, "key", b"1")
    deleted = await store.commit(Commit((), ("key",), (Check("key", first),)))
    expect(deleted > first, f"the delete has revision {deleted}, after {first}")
    expect_equal(await store.get("key"), None, "the entry of a deleted key")
    expect_equal(await contents(store), {}, "what a scan finds")
    with raises(Conflict, _REFUSED):
        await put(store, "key", b"refused", expect=first)
    again = await put(store, "key", b"2", expect=ABSENT)
    expect(again > deleted, f"the key put again has version {again}, after {deleted}")


@check
async def deleting_an_absent_key_changes_nothing(fixture: StoreFixture) -> None:
    """A delete of an absent key is allowed, and does not disturb any other."""
    store = fixture.store
    version = await put(store, "key", b"1")
    revision = await store.commit(Commit((), ("nobody",)))
    expect(revision >= version, f"revision {revision} follows {version}")
    expect_equal(await versions(store, "key", "nobody"), [version, ABSENT], "the versions")
    expect(await put(store, "key", b"2") > version, "the next commit has no later revision")


@check
async def a_fence_refuses_earlier_tokens(fixture: StoreFixture) -> None:
    """Once a token is committed under a fence, a smaller one is `Fenced`, for every client."""
    other = await fixture.connect()

    async def write(token: int, name: str = "lock") -> None:
        for client in (fixture.store, other):
            await client.commit(Commit((Put("key", b"%d" % token),), fences=(Fence(name, token),)))

    for token in (5, 5, 7):
        await write(token)
    for client in (fixture.store, other):
        for token in (6, 5, 0):
            with raises(Fenced, _REFUSED, what=f"token {token} after token 7"):
                await client.commit(Commit((Put("key", b"late"),), fences=(Fence("lock", token),)))
            with raises(Fenced, _REFUSED, what=f"a commit without writes under token {token}"):
                await client.commit(Commit(fences=(Fence("lock", token),)))
    expect_equal(await contents(fixture.store), {"key": b"7"}, "the store")
    await write(3, name="another lock")


@check
async def a_fence_is_recorded_without_writes(fixture: StoreFixture) -> None:
    """A commit of a fence alone records its token, so that a new holder can shut out the old one at once."""
    await fixture.store.commit(Commit(fences=(Fence("lock", 9),)))
    with raises(Fenced, _REFUSED):
        await fixture.store.commit(Commit((Put("key", b""),), fences=(Fence("lock", 8),)))


@check
async def a_refused_commit_records_no_fence(fixture: StoreFixture) -> None:
    """The token of a commit that a check refused shuts nobody out."""
    store = fixture.store
    with raises(Conflict, _REFUSED):
        await store.commit(Commit((Put("key", b"1"),), (), (Check("key", 77),), (Fence("lock", 9),)))
    await store.commit(Commit((Put("key", b"2"),), fences=(Fence("lock", 5),)))


@check
async def fences_and_keys_do_not_mix(fixture: StoreFixture) -> None:
    """Fence names are apart from keys: a fence is no entry, and a key of its name is no fence."""
    store = fixture.store
    await store.commit(Commit((Put("key", b""),), fences=(Fence("name", 5),)))
    expect_equal(await store.get("name"), None, "the entry of a key named as a fence")
    expect_equal(await contents(store), {"key": b""}, "what a scan finds")
    await put(store, "name", b"1")
    await store.commit(Commit((), ("name",)))
    with raises(Fenced, _REFUSED):
        await store.commit(Commit(fences=(Fence("name", 4),)))


@check
async def limits_are_exact(fixture: StoreFixture) -> None:
    """A key and a value of exactly the limits are kept; one byte more is `TooLarge` and changes nothing."""
    store, given = fixture.store, fixture.store.guarantees
    longest = "é" * (given.max_key_bytes // 2) + "k" * (given.max_key_bytes % 2)
    largest = b"v" * given.max_value_bytes
    await put(store, longest, largest)
    entry = await store.get(longest)
    expect(entry is not None and entry.value == largest, "the largest entry does not come back")
    await store.commit(Commit((), (longest,)))
    for key, value in ((longest + "k", b""), ("key", largest + b"v")):
        with raises(TooLarge, _REFUSED, what=f"a put of {len(key.encode())} and {len(value)} bytes"):
            await put(store, key, value)
    with raises(TooLarge, _REFUSED, what="a get of a key that is too long"):
        await store.get(longest + "k")
    expect_equal(await contents(store), {}, "the store")


@check(when=multi_key)
async def the_number_of_keys_is_limited(fixture: StoreFixture) -> None:
    """Puts, deletes, checks and fences together reach `max_commit_keys` and no further."""
    store, most = fixture.store, fixture.store.guarantees.max_commit_keys
    rest = (("gone",), (Check("absent", ABSENT),), (Fence("lock", 1),))
    await store.commit(Commit(tuple(Put(f"full-{i}", b"") for i in range(most - 3)), *rest))
    with raises(TooLarge, _REFUSED, what=f"a commit of {most + 1} keys"):
        await store.commit(Commit(tuple(Put(f"over-{i}", b"") for i in range(most - 2)), *rest))
    expect_equal(len(await contents(store)), most - 3, "the number of keys written")


@check
async def impossible_keys_are_refused(fixture: StoreFixture) -> None:
    """Keys that are empty, hold NUL or are no valid Unicode are an `InvalidArgument` wherever they stand."""
    store = fixture.store
    for bad in ("", "nul\0", "\0", "half \ud800"):
        commits = [
            Commit((Put("good", b""), Put(bad, b""))),
            Commit((Put("good", b""),), (bad,)),
            Commit((Put("good", b""),), (), (Check(bad, ABSENT),)),
            Commit((Put("good", b""),), fences=(Fence(bad, 1),)),
        ]
        for commit in commits:
            with raises(InvalidArgument, _REFUSED, what=f"{commit}"):
                await store.commit(commit)
        with raises(InvalidArgument, _REFUSED, what=f"a get of {bad!r}"):
            await store.get(bad)
    expect_equal(await contents(store), {}, "the store")


@check
async def values_must_be_bytes(fixture: StoreFixture) -> None:
    """A value of another type is an `InvalidArgument`, and nothing is applied."""
    with raises(InvalidArgument, _REFUSED):
        await fixture.store.commit(Commit((Put("key", "text"),)))  # type: ignore[arg-type]
    expect_equal(await fixture.store.get("key"), None, "the entry")


@check
async def a_key_is_written_once_a_commit(fixture: StoreFixture) -> None:
    """A commit that names a key twice among its puts and deletes is an `InvalidArgument`."""
    for commit in (Commit((Put("key", b"1"), Put("key", b"2"))), Commit((Put("key", b"1"),), ("key",))):
        with raises(InvalidArgument, _REFUSED, what=f"{commit}"):
            await fixture.store.commit(commit)
    expect_equal(await fixture.store.get("key"), None, "the entry")


@check(when=single_key)
async def several_keys_are_refused(fixture: StoreFixture) -> None:
    """A store without multi-key commits refuses them as an `InvalidArgument` and applies nothing."""
    with raises(InvalidArgument, _REFUSED):
        await fixture.store.commit(Commit((Put("a", b""), Put("b", b""))))
    expect_equal(await contents(fixture.store), {}, "the store")
