"""The pure decisions: the view from batches, and when a node may believe in its lease."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.membership import EventKind, Member, MemberState, Standing, View
from coterie.ports.store import Batch, Change

encode = msgspec.msgpack.encode


def member(id_: str, **facts: object) -> Member:
    given_facts = {"name": id_, "address": f"host-{id_}:1", "services": ("S",), "state": MemberState.SERVING}
    return Member(id=id_, **{**given_facts, **facts})  # type: ignore[arg-type]


def change(m: Member, version: int = 1) -> Change:
    return Change(f"app/member/{m.id}", encode(m), version)


def gone(id_: str) -> Change:
    return Change(f"app/member/{id_}", None, 2)


def kinds(events: list) -> list[tuple[str, str]]:
    return [(event.kind.value, event.member.id) for event in events]


def test_members_join_change_and_leave() -> None:
    view = View("app/member/")
    assert kinds(view.apply(Batch(1, (change(member("a")),), snapshot=True))) == [("joined", "a")]
    draining = member("a", state=MemberState.DRAINING)
    assert kinds(view.apply(Batch(2, (change(draining),)))) == [("changed", "a")]
    assert view.apply(Batch(3, (change(draining),))) == []
    assert kinds(view.apply(Batch(4, (gone("a"), gone("never there"))))) == [("left", "a")]
    assert view.revision == 4


def test_a_snapshot_replaces_what_was_known() -> None:
    view = View("app/member/")
    view.apply(Batch(1, (change(member("a")), change(member("b"))), snapshot=True))
    events = view.apply(Batch(9, (change(member("b")), change(member("c"))), snapshot=True))
    assert kinds(events) == [("left", "a"), ("joined", "c")]


def test_a_record_that_cannot_be_read_is_left_out_and_harms_nobody() -> None:
    view = View("app/member/")
    bad = Change("app/member/x", b"\xc1 nonsense", 1)
    events = view.apply(Batch(1, (bad, change(member("a"))), snapshot=True))
    assert kinds(events) == [("joined", "a")]
    assert view.unreadable == {"app/member/x"}
    assert kinds(view.apply(Batch(2, (Change("app/member/a", b"\xc1", 2),)))) == [("left", "a")]
    assert view.unreadable == {"app/member/a", "app/member/x"}
    view.apply(Batch(3, (change(member("a")),)))
    assert view.unreadable == {"app/member/x"}
    view.apply(Batch(4, (), snapshot=True))
    assert view.unreadable == set()


def test_only_those_that_serve_are_called() -> None:
    view = View("app/member/")
    members = [
        member("b"),
        member("a"),
        member("c", state=MemberState.DRAINING),
        member("d", state=MemberState.STARTING),
        member("e", address=""),
        member("f", services=("T",)),
    ]
    view.apply(Batch(1, tuple(change(m) for m in members), snapshot=True))
    serving = {service: [m.id for m in found] for service, found in view.serving().items()}
    assert serving == {"S": ["a", "b"], "T": ["f"]}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["join", "drain", "leave", "snapshot"])),
        max_size=40,
    )
)
def test_the_view_is_what_a_plain_dict_would_be(steps: list[tuple[str, str]]) -> None:
    view, model = View("app/member/"), dict[str, Member]()
    for number, (id_, step) in enumerate(steps, 1):
        state = MemberState.DRAINING if step == "drain" else MemberState.SERVING
        if step == "snapshot":
            view.apply(Batch(number, tuple(change(m) for m in model.values()), snapshot=True))
        elif step == "leave":
            model.pop(id_, None)
            view.apply(Batch(number, (gone(id_),)))
        else:
            model[id_] = member(id_, state=state)
            events = view.apply(Batch(number, (change(model[id_]),)))
            assert all(event.kind in {EventKind.JOINED, EventKind.CHANGED} for event in events)
        assert view.members == model


def test_a_node_stops_believing_before_the_store_can_let_go() -> None:
    standing = Standing(ttl_s=3.0, margin_s=0.5)
    assert not standing.believes(0.0)
    standing.joined(began=10.0)
    assert standing.believes(12.49)
    assert not standing.believes(12.5)
    standing.joined(began=12.0)
    assert standing.believes(14.0)
    standing.lost()
    assert not standing.believes(12.0)


def test_renewals_come_at_a_third_of_the_lease() -> None:
    standing = Standing(ttl_s=3.0, margin_s=0.5)
    assert standing.next_renewal_s(5.0) == 0
    standing.joined(began=10.0)
    assert standing.next_renewal_s(10.2) == pytest.approx(0.8)
    assert standing.next_renewal_s(99.0) == 0


@pytest.mark.parametrize("margin_s", [0.0, -1.0, 3.0, 4.0])
def test_the_margin_lies_within_the_lease(margin_s: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        Standing(ttl_s=3.0, margin_s=margin_s)
