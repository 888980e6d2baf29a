"""The judge knows right from wrong in what scans of maps found."""

from __future__ import annotations

import itertools

import pytest

from coterie.errors import Outcome, Unavailable
from coterie.ports.store import Commit, Put
from coterie.simulation.program.evidence import Committed, Noted, Scanned
from coterie.simulation.program.judge import judge
from coterie.simulation.program.notebook import Notebook


class Book(Notebook):
    """A notebook of the map `stock`, with a Store that gives revisions from 1."""

    def __init__(self) -> None:
        ticks = itertools.count()
        super().__init__("shop", lambda: next(ticks))
        self.revision = 0

    def write(self, name: str, value: bytes | None) -> tuple[list[Noted], Committed]:
        """Begin to put or delete an entry."""
        key = f"shop/map/stock/{name}"
        commit = Commit((), (key,)) if value is None else Commit((Put(key, value),))
        return self.prepare("node-1", commit)[1:]

    def put(self, name: str, value: bytes = b"\x01") -> int:
        return self.acknowledge(*self.write(name, value))

    def delete(self, name: str) -> int:
        return self.acknowledge(*self.write(name, None))

    def acknowledge(self, parts: list[Noted], whole: Committed) -> int:
        self.revision += 1
        self.committed(parts, whole, self.revision)
        return self.revision

    def lose(self, parts: list[Noted], whole: Committed) -> None:
        self.not_committed(parts, whole, Unavailable("gone", outcome=Outcome.UNKNOWN))

    def scan(self, prefix: str = "") -> Scanned:
        """Begin a scan."""
        scan = Scanned(self.begin("node-2", "scan", f"stock/{prefix}"), f"shop/map/stock/{prefix}")
        self.add(scan, self.scanned)
        return scan

    def find(self, scan: Scanned, *found: tuple[str, int], whole: bool = True) -> None:
        """Let a scan find entries, and come to its end."""
        for name, version in found:
            super().found(scan, f"shop/map/stock/{name}", version)
        if whole:
            self.ok(scan.noted, len(found))
            self.scanned_all(scan)

    def sentence(self) -> str | None:
        broken = judge(self)
        return None if broken is None else f"{broken.promise}: {broken.sentence}"


def test_what_is_there_is_found() -> None:
    book = Book()
    cup, tea = book.put("cup"), book.put("tea")
    book.find(book.scan(), ("cup", cup), ("tea", tea))
    assert book.sentence() is None
    book.find(book.scan(), ("tea", tea))
    assert book.sentence() == (
        'map stock: a scan of "stock/" by node-2 did not find "stock/cup" = 1 (write 1), '
        "which was there all the time"
    )
    broken = judge(book)
    assert broken is not None
    assert [op.f for op in broken.witness] == ["put", "scan"]


def test_other_prefixes_are_not_looked_for() -> None:
    book = Book()
    book.put("cup")
    tea = book.put("tea")
    book.find(book.scan("t"), ("tea", tea))
    assert book.sentence() is None
    book.find(book.scan("t"), ("cup", 1))
    assert 'found "stock/cup" which has not the prefix' in str(book.sentence())


def test_keys_come_in_order_and_once() -> None:
    book = Book()
    cup, tea = book.put("cup"), book.put("tea")
    book.find(book.scan(), ("tea", tea), ("cup", cup))
    assert 'found "stock/cup" after "stock/tea"' in str(book.sentence())
    book = Book()
    cup = book.put("cup")
    book.find(book.scan(), ("cup", cup), ("cup", cup))
    assert 'found "stock/cup" after "stock/cup"' in str(book.sentence())


def test_an_entry_is_no_older_than_what_was_acknowledged_before() -> None:
    book = Book()
    old = book.put("cup")
    scan = book.scan()
    book.put("cup", b"\x02")
    book.find(scan, ("cup", old))  # It had begun before that.
    assert book.sentence() is None
    book.find(book.scan(), ("cup", old))
    assert 'found version 1 of "stock/cup", which had become 2 (write 2) before, with version 2' in str(
        book.sentence()
    )


def test_what_is_deleted_is_not_found_later() -> None:
    book = Book()
    old = book.put("cup")
    book.delete("cup")
    book.find(book.scan())
    assert book.sentence() is None
    book.find(book.scan(), ("cup", old))
    assert "which had become deleted before" in str(book.sentence())


@pytest.mark.parametrize("lost", [False, True])
def test_what_may_be_deleted_meanwhile_need_not_be_found(lost: bool) -> None:
    book = Book()
    book.put("cup")
    scan = book.scan()
    deletion = book.write("cup", None)
    book.find(scan)
    (book.lose if lost else book.acknowledge)(*deletion)
    assert book.sentence() is None
    later = book.scan()
    book.find(later)
    assert book.sentence() is None  # Nobody knows when it takes effect, if it was lost.
    new = book.put("cup")
    book.find(book.scan(), ("cup", new))
    assert book.sentence() is None
    book.find(book.scan())
    assert (book.sentence() is None) is lost


def test_a_deletion_that_begins_when_the_scan_is_over_excuses_nothing() -> None:
    book = Book()
    book.put("cup")
    book.find(book.scan())
    book.delete("cup")
    assert "did not find" in str(book.sentence())


def test_a_deletion_that_was_older_than_the_entry_excuses_nothing() -> None:
    book = Book()
    book.put("cup")
    deletion = book.write("cup", None)
    parts, whole = book.write("cup", b"\x02")
    book.acknowledge(*deletion)
    book.acknowledge(parts, whole)
    book.find(book.scan())
    assert 'did not find "stock/cup" = 2 (write 2)' in str(book.sentence())


def test_a_scan_that_ended_early_is_judged_as_far_as_it_came() -> None:
    book = Book()
    names = ["ale", "cup", "tea"]
    versions = [book.put(name) for name in names]
    book.find(book.scan(), whole=False)
    book.find(book.scan(), *zip(names[:2], versions[:2], strict=True), whole=False)
    assert book.sentence() is None
    book.find(book.scan(), ("cup", versions[1]), whole=False)
    assert 'did not find "stock/ale"' in str(book.sentence())


def test_without_all_the_evidence_nothing_is_said() -> None:
    book = Book()
    book.put("cup")
    book.find(book.scan())
    book.full_at = 0
    assert "evidence" in str(book.sentence())
