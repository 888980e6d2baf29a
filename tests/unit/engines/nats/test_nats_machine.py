"""The state machine on NATS: repetitions, images, and leases that end by their own renewal only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coterie.engines.nats._deadlines import Deadlines
from coterie.engines.nats._machine import Applied, DoCommit, End, Envelope, Grant, Machine, Renew, Revoke
from coterie.errors import LeaseLost
from coterie.ports.store import ABSENT, Check, Commit, Fence, Put

keys = st.sampled_from("abc")
commits = st.builds(
    Commit,
    puts=st.dictionaries(keys, st.integers(0, 3), max_size=2).map(
        lambda found: tuple(Put(key, b"v", lease) for key, lease in found.items())
    ),
    checks=st.lists(st.builds(Check, keys, st.integers(ABSENT, 4)), max_size=1).map(tuple),
    fences=st.lists(st.builds(Fence, keys, st.integers(0, 3)), max_size=1).map(tuple),
)
operations = st.one_of(
    st.builds(DoCommit, commits),
    st.builds(Grant, st.just(1000)),
    st.builds(Renew, st.integers(1, 3)),
    st.builds(Revoke, st.integers(1, 3)),
    st.builds(End, st.integers(1, 3), st.integers(0, 2)),
)
messages = st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.lists(operations, max_size=3)), max_size=25)


def numbered(sent: list[tuple[str, list]]) -> list[Envelope]:
    """Number each client's messages from 1; each has finished with all that are two older."""
    numbers: dict[str, int] = {}
    envelopes = []
    for client, content in sent:
        number = numbers[client] = numbers.get(client, 0) + 1
        envelopes.append(Envelope(client, number, max(1, number - 2), tuple(content)))
    return envelopes


def outcome(applied: Applied) -> object:
    """Return what can be compared: errors have no equality."""
    results = [result if isinstance(result, int) else repr(result) for result in applied.results]
    return results, applied.commits, applied.renewed


@given(messages, st.data())
def test_repetitions_change_nothing_however_late_they_come(sent: list, data: st.DataObject) -> None:
    once, often = Machine(), Machine()
    envelopes = numbered(sent)
    for index, envelope in enumerate(envelopes):
        assert outcome(once.apply(envelope)) == outcome(often.apply(envelope))
        again = data.draw(st.lists(st.integers(0, index), max_size=3))
        for earlier in again:
            assert outcome(often.apply(envelopes[earlier])) == ([], [], [])
    assert once.snapshot("") == often.snapshot("")


@given(messages, st.integers(0, 25))
def test_an_image_goes_on_as_the_machine_would(sent: list, at: int) -> None:
    machine = restored = Machine()
    for index, envelope in enumerate(numbered(sent)):
        if index == at:
            restored = Machine.from_image(machine.image())
        applied = outcome(machine.apply(envelope))
        if restored is not machine:
            assert outcome(restored.apply(envelope)) == applied
    assert restored.image() == machine.image()
    assert restored.snapshot("") == machine.snapshot("")


def test_messages_that_overtake_each_other_are_each_applied() -> None:
    machine = Machine()
    for number in (3, 1, 2):
        put = DoCommit(Commit((Put(str(number), b""),)))
        assert machine.apply(Envelope("ann", number, 1, (put,))).results
    # The client has given up the fourth, so that it is too late for it.
    assert machine.apply(Envelope("ann", 5, 5, ())).results == []
    late = DoCommit(Commit((Put("4", b""),)))
    assert machine.apply(Envelope("ann", 4, 1, (late,))).results == []
    assert [entry.key for entry in machine.scan("", "", 10).entries] == ["1", "2", "3"]


def test_a_lease_ends_only_by_its_newest_renewal() -> None:
    machine = Machine()
    [lease] = machine.apply(Envelope("", 0, 0, (Grant(1000),))).results
    assert isinstance(lease, int)
    machine.apply(Envelope("", 0, 0, (DoCommit(Commit((Put("key", b"", lease),))), Renew(lease))))
    # Whoever counts from the grant is told nothing by this end: the lease was renewed since.
    assert machine.apply(Envelope("", 0, 0, (End(lease, 0),))).commits == []
    assert machine.get("key") is not None
    [(revision, [change])] = machine.apply(Envelope("", 0, 0, (End(lease, 1),))).commits
    assert (change.key, change.value, change.version) == ("key", None, revision)
    [error] = machine.apply(Envelope("", 0, 0, (Renew(lease),))).results
    assert isinstance(error, LeaseLost)


def test_deadlines_are_those_of_the_newest_renewals() -> None:
    deadlines = Deadlines()
    assert deadlines.next() is None
    deadlines.renewed(1, 0, 10.0)
    deadlines.renewed(2, 0, 5.0)
    deadlines.renewed(2, 1, 12.0)
    assert deadlines.next() == 10.0
    assert list(deadlines.pop_due(9.9)) == []
    assert list(deadlines.pop_due(12.0)) == [(1, 0), (2, 1)]
    assert deadlines.next() is None
