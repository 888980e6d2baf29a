"""Scans: order, prefixes, pages."""

from __future__ import annotations

from ...errors import InvalidArgument
from ...ports.store import Commit
from .._expect import background, expect, expect_equal, raises
from ..suite import check
from .fixture import StoreFixture, contents, put, put_all

_LAST = "\U0010ffff"


@check
async def a_scan_is_in_order_of_code_points(fixture: StoreFixture) -> None:
    """Entries come in the order of their keys' code points, neither of UTF-16 nor of any language."""
    keys = [
        "b",
        "a",
        "aa",
        "a b",
        "Z",
        "é",
        "e",
        "z",
        "10",
        "9",
        "\x01",
        "\x7f",
        "\x80",
        "\uffee",
        "\U00010000",
        "字",
        _LAST,
        "ÿ",
        "~",
    ]
    await put_all(fixture.store, keys)
    expect_equal(list(await contents(fixture.store)), sorted(keys), "the order")


@check
async def a_scan_finds_its_prefix_and_nothing_else(fixture: StoreFixture) -> None:
    """A prefix is plain text: no character of it is a wildcard, folds case or is cut off."""
    alphabet = [
        "a",
        "A",
        "b",
        "%",
        "_",
        "*",
        "?",
        "[",
        "]",
        "'",
        '"',
        "\\",
        ".",
        "/",
        " ",
        "\n",
        "é",
        "e\u0301",
        "😀",
    ]
    keys = [first + second for first in alphabet for second in ("", "x", *alphabet)]
    await put_all(fixture.store, dict.fromkeys(keys))
    for prefix in (*alphabet, "ax", "a%", "%%", "__", "a_"):
        wanted = sorted({key for key in keys if key.startswith(prefix)})
        expect_equal(list(await contents(fixture.store, prefix)), wanted, f"the scan of {prefix!r}")


@check
async def the_empty_prefix_finds_everything(fixture: StoreFixture) -> None:
    """A scan of the empty prefix returns every entry, and of an empty store none."""
    page = await fixture.store.scan("")
    expect_equal((page.entries, page.more), ((), False), "the page of an empty store")
    keys = ["a", "\x01", _LAST, _LAST * 3, "字"]
    await put_all(fixture.store, keys)
    expect_equal(list(await contents(fixture.store)), sorted(keys), "what a scan finds")


@check
async def prefixes_may_end_at_the_last_code_point(fixture: StoreFixture) -> None:
    """A prefix that has no successor, or one beyond the surrogates, bounds its scan all the same."""
    keys = [
        *("a", f"a{_LAST}", f"a{_LAST}x", f"a{_LAST}{_LAST}", "b", _LAST, f"{_LAST}x", f"{_LAST}{_LAST}"),
        *("\ud7ff", "\ud7ffx", "\ud7ff" + _LAST, "\ue000", "\ue000x"),
    ]
    await put_all(fixture.store, keys)
    for prefix in ("a", f"a{_LAST}", f"a{_LAST}{_LAST}", _LAST, _LAST * 2, _LAST * 3, "\ud7ff", "\ue000"):
        wanted = sorted(key for key in keys if key.startswith(prefix))
        expect_equal(list(await contents(fixture.store, prefix)), wanted, f"the scan of {prefix!r}")


@check
async def a_prefix_may_be_longer_than_any_key(fixture: StoreFixture) -> None:
    """A prefix that no key can have finds nothing; it is not an error."""
    await put(fixture.store, "key")
    for prefix in ("key" * fixture.store.guarantees.max_key_bytes, "key\0", "\0"):
        page = await fixture.store.scan(prefix)
        expect_equal((page.entries, page.more), ((), False), f"the scan of {prefix[:10]!r}")


@check
async def pages_cover_every_entry_once(fixture: StoreFixture) -> None:
    """Following `more` with `after` set to the last key visits every entry exactly once, in order."""
    keys = sorted([f"p/{i:03}" for i in range(50)] + [f"p/é{i}" for i in range(5)])
    await put_all(fixture.store, [*keys, "o", "p", "q"])
    for limit in (1, 7, 54, 55, 56):
        found: list[str] = []
        more = True
        while more:
            page = await fixture.store.scan("p/", after=found[-1] if found else "", limit=limit)
            expect(len(page.entries) <= limit, f"{len(page.entries)} entries; the limit is {limit}")
            expect(page.entries or not page.more, "an empty page says that others follow")
            found += [entry.key for entry in page.entries]
            expect_equal(
                page.more, len(found) < len(keys), f"`more` after {len(found)} of {len(keys)} entries"
            )
            more = page.more
        expect_equal(found, keys, f"the keys in pages of {limit}")


@check
async def after_excludes_its_key(fixture: StoreFixture) -> None:
    """`after` need not be a key nor begin with the prefix; what follows it in order is returned."""
    await put_all(fixture.store, ["a", "p1", "p3", "p5", "z"])
    wanted = {
        "p1": ["p3", "p5"],
        "p2": ["p3", "p5"],
        "p": ["p1", "p3", "p5"],
        "a": ["p1", "p3", "p5"],
        "p5": [],
        "p9": [],
        "z": [],
        _LAST: [],
    }
    for after, keys in wanted.items():
        page = await fixture.store.scan("p", after=after)
        expect_equal([entry.key for entry in page.entries], keys, f"the scan after {after!r}")
        expect_equal(page.more, False, f"`more` of the scan after {after!r}")


@check
async def the_limit_has_bounds(fixture: StoreFixture) -> None:
    """A limit from 1 to 10,000 is taken, any other an `InvalidArgument`."""
    await put_all(fixture.store, ["a", "b"])
    for limit in (1, 10_000):
        expect_equal(
            len((await fixture.store.scan("", limit=limit)).entries), min(limit, 2), "the page's size"
        )
    for limit in (0, -1, 10_001):
        with raises(InvalidArgument, what=f"a scan with the limit {limit}"):
            await fixture.store.scan("", limit=limit)


@check
async def a_scan_shows_whole_entries(fixture: StoreFixture) -> None:
    """The entries of a page are those that `get` returns, lease and version included."""
    store = fixture.store
    lease = await store.grant(30)
    await put(store, "a", b"1")
    await put(store, "b", b"2", lease=lease)
    await put(store, "c", b"3")
    await store.commit(Commit((), ("c",)))
    page = await store.scan("")
    expect_equal(list(page.entries), [await store.get("a"), await store.get("b")], "the page")


@check
async def a_page_is_no_older_than_its_revision(fixture: StoreFixture) -> None:
    """Every commit up to a page's `revision` is in the page, also while others write."""
    store, other = fixture.store, await fixture.connect()
    await put(store, "key")

    async def write() -> None:
        while True:
            await put(other, "key")

    async with background(write()) as writer:
        for _ in range(50):
            page = await store.scan("")
            # Every commit of this store writes the key, so its version is the newest that the page shows.
            shown = page.entries[0].version
            expect(shown >= page.revision, f"a page of revision {page.revision} shows the state of {shown}")
            await put(store, "key")
        expect(not writer.done(), "the writer failed")


@check
async def long_scans_work(fixture: StoreFixture) -> None:
    """Some thousand entries come in full pages."""
    keys = [f"k{i:05}" for i in range(2500)]
    await put_all(fixture.store, keys)
    page = await fixture.store.scan("k", limit=2000)
    expect_equal([entry.key for entry in page.entries], keys[:2000], "the first page")
    expect_equal(page.more, True, "`more` of the first page")
    expect_equal(list(await contents(fixture.store)), keys, "all pages")
