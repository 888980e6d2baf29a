"""One node's part of the protocol, message by message."""

from __future__ import annotations

import msgspec
import pytest

from coterie.detection import Change, DetectionConfig, Gossip, Known, Send, State
from coterie.detection.messages import Ack, Ask, Beat, LoadReport, Nack, Ping, Rumor, decode, encode
from coterie.errors import InvalidConfiguration

CONFIG = DetectionConfig()


def peers(*ids: str) -> dict[str, Known]:
    return {id_: Known(id_, id_.upper(), f"{id_}:1") for id_ in ids}


def gossip(*others: str, config: DetectionConfig = CONFIG) -> Gossip:
    node = Gossip(Known("me", "ME", "me:1"), config, now=0.0, chance=lambda bound: 0)
    node.sync(peers("me", *others))
    node.take_changes()
    return node


def alive(id_: str, incarnation: int = 0) -> Rumor:
    return Rumor(id_, State.ALIVE, incarnation, "", id_.upper(), f"{id_}:1")


def suspect(id_: str, incarnation: int = 0, by: str = "b") -> Rumor:
    return Rumor(id_, State.SUSPECT, incarnation, by)


def dead(id_: str, incarnation: int = 0, by: str = "b") -> Rumor:
    return Rumor(id_, State.DEAD, incarnation, by)


def beat(sender: str, *rumors: Rumor) -> Beat:
    return Beat(sender, (), rumors)


def of(kind: type, sends: list[Send]) -> list[Send]:
    return [send for send in sends if isinstance(send.message, kind)]


def run(node: Gossip, until: float) -> list[Send]:
    """Tick on time, without an answer from anybody."""
    sent = []
    while node.next_at <= until:
        sent += node.tick(node.next_at)
    return sent


def test_a_period_is_heartbeats_and_one_probe() -> None:
    sent = gossip("a", "b", "c", "d", "e").tick(0.0)
    (ping,) = of(Ping, sent)
    beaten = {send.to for send in sent}
    assert beaten >= set(gossip("a", "b", "c", "d", "e").table.after(3)), "a probe is as good as a heartbeat"
    assert len(sent) == len(beaten) <= 4
    assert ping.message.to == ping.to  # type: ignore[union-attr]
    assert ping.address == f"{ping.to}:1"


def test_a_ping_is_answered_by_whom_it_is_for_only() -> None:
    node = gossip("a")
    (ack,) = node.received(Ping("a", (), (), 7, "me"), 0.1)
    assert (ack.to, ack.message.number) == ("a", 7)  # type: ignore[union-attr]
    assert node.received(Ping("a", (), (), 7, "who had my address before"), 0.1) == []


def test_an_unknown_node_that_pings_is_taken_in_and_answered() -> None:
    node = gossip()
    (ack,) = node.received(Ping("x", (), (alive("x"),), 1, "me"), 0.1)
    assert ack.address == "x:1"
    assert node.take_changes() == [Change("x", None, State.ALIVE)]


def test_who_does_not_answer_is_probed_by_others_and_then_suspected() -> None:
    node = gossip("a", "b", "c", "d", "e")
    (ping,) = of(Ping, node.tick(0.0))
    asks = of(Ask, run(node, 0.2))
    assert len(asks) == 3
    assert {ask.message.target for ask in asks} == {ping.to}  # type: ignore[union-attr]
    assert ping.to not in {ask.to for ask in asks}
    number = ping.message.number  # type: ignore[union-attr]
    for ask in asks:
        node.received(Nack(ask.to, (), (), number), 0.4)
    run(node, 0.5)
    assert node.state(ping.to) is State.SUSPECT
    assert node.health.score == 0


def test_an_answer_to_a_helper_is_an_answer() -> None:
    node = gossip("a", "b", "c", "d", "e")
    (ping,) = of(Ping, node.tick(0.0))
    ask = of(Ask, run(node, 0.2))[0]
    node.received(Ack(ask.to, (), (), ping.message.number), 0.4)  # type: ignore[union-attr]
    run(node, 0.49)
    assert node.state(ping.to) is State.ALIVE
    assert node.statistics.failed == 0


def test_a_helper_probes_and_tells_either_way() -> None:
    node = gossip("a", "b", "c")
    (ping,) = node.received(Ask("a", (), (), 41, "b"), 0.0)
    assert (ping.to, type(ping.message)) == ("b", Ping)
    (ack,) = node.received(Ack("b", (), (), ping.message.number), 0.1)  # type: ignore[union-attr]
    assert (ack.to, type(ack.message), ack.message.number) == ("a", Ack, 41)  # type: ignore[union-attr]
    node.received(Ask("a", (), (), 42, "b"), 1.0)
    (nack,) = of(Nack, run(node, 1.2))
    assert (nack.to, nack.message.number) == ("a", 42)  # type: ignore[union-attr]
    (nack,) = node.received(Ask("a", (), (), 43, "nobody"), 1.3)
    assert isinstance(nack.message, Nack)


def test_silence_from_everybody_speaks_against_oneself_first() -> None:
    node = gossip("a", "b", "c", "d", "e")
    (ping,) = of(Ping, node.tick(0.0))
    again = of(Ping, run(node, 0.5))
    assert node.state(ping.to) is State.ALIVE
    assert node.health.score == 1
    assert ping.to in {send.to for send in again}
    run(node, 2.0)
    assert node.state(ping.to) is State.ALIVE, "it gets more time with each probe"
    run(node, 20.0)
    assert node.state(ping.to) in {State.SUSPECT, State.DEAD}


def test_an_answer_that_comes_late_is_an_answer() -> None:
    node = gossip("a", "b", "c", "d", "e")
    (ping,) = of(Ping, node.tick(0.0))
    for late in (1.4, 4.9):
        run(node, late)
        node.received(Ack(ping.to, (), (), ping.message.number), late)  # type: ignore[union-attr]
        again = [send for send in of(Ping, run(node, late + 0.1)) if send.to == ping.to]
        ping = again[0] if again else ping
    assert node.state(ping.to) is State.ALIVE
    assert ping.to not in node._doubted


def test_without_anybody_to_ask_two_probes_decide() -> None:
    node = gossip("a")
    run(node, 0.5)
    assert node.state("a") is State.ALIVE
    run(node, 0.7)
    assert node.state("a") is State.SUSPECT


def test_a_node_refutes_what_is_said_of_it() -> None:
    node = gossip("a", "b")
    node.received(beat("a", suspect("me")), 0.1)
    assert node.me.incarnation == 1
    told = [rumor for send in node.tick(0.2) for rumor in send.message.rumors]
    assert alive("me", 1).incarnation in {rumor.incarnation for rumor in told if rumor.id == "me"}
    node.received(beat("a", suspect("me")), 0.3)
    assert node.me.incarnation == 1, "that one is refuted already"
    node.received(beat("a", dead("me", 5)), 0.3)
    assert node.me.incarnation == 6


def test_a_suspicion_ends_in_death_unless_it_is_refuted() -> None:
    node = gossip("a", "b", "c")
    node.received(beat("b", suspect("a"), suspect("c")), 0.0)
    node.received(beat("b", alive("c", 1)), 0.1)
    assert (node.state("a"), node.state("c")) == (State.SUSPECT, State.ALIVE)
    least_s, most_s = CONFIG.suspicion_s(4)
    assert (least_s, most_s) == (2.0, 12.0)
    node._suspicions["a"].confirm("c")
    node._suspicions["a"].confirm("me")
    assert node._suspicions["a"].until == pytest.approx(2.0)
    node._hear(dead("a"), 2.0)
    assert node.state("a") is State.DEAD
    node.received(beat("b", alive("a", 0)), 2.1)
    assert node.state("a") is State.DEAD, "old news revives nobody"
    node.received(beat("b", alive("a", 1)), 2.2)
    assert node.state("a") is State.ALIVE


def test_each_confirmation_makes_a_suspicion_shorter() -> None:
    node = gossip("a", "b", "c", "d", "e", "f")
    node.received(beat("b", suspect("a", by="b")), 0.0)
    ends = [node._suspicions["a"].until]
    for by in ("c", "c", "d", "e", "f"):
        node.received(beat("b", suspect("a", by=by)), 0.1)
        ends.append(node._suspicions["a"].until)
    assert ends[0] == pytest.approx(12.0)
    assert ends[0] > ends[1] == ends[2] > ends[3] > ends[4] == ends[5] == pytest.approx(2.0)


def test_who_left_stays_gone() -> None:
    node = gossip("a", "b")
    node.received(beat("b", Rumor("a", State.LEFT, 0)), 0.0)
    node.received(beat("b", alive("a", 99), suspect("a", 99), dead("a", 99)), 0.1)
    assert node.state("a") is State.LEFT


def test_who_leaves_says_so_and_is_silent() -> None:
    node = gossip("a", "b", "c")
    farewell = node.leave()
    assert len(farewell) == 3
    assert all(Rumor("me", State.LEFT, 0) in send.message.rumors for send in farewell)
    assert node.tick(99.0) == node.leave() == node.received(Ping("a", (), (), 1, "me"), 99.0) == []


def test_silence_of_heartbeats_calls_for_a_probe_at_once() -> None:
    config = DetectionConfig(period_s=100, timeout_s=0.2, phi=8)  # Nobody's turn comes within this test.
    node = gossip("a", "b", config=config)
    node.tick(node.next_at)
    for number in (1, 2):
        node.received(Ack("a", (), (), number), 0.1)
    for now in range(50, 1000, 100):
        node.received(beat("a"), now)
    quiet = node.phi("a", 1000.0)
    assert quiet is not None
    assert quiet < 1
    loud = node.phi("a", 1300.0)
    assert loud is not None
    assert loud > 8
    node._period_at, node._looked_at = 9999.0, 1000.0
    del node._phis["b"]
    node._probes.clear()
    node._plan()
    assert 1050 < node.next_at < 1250
    assert [send.to for send in of(Ping, node.tick(node.next_at))].count("a") == 1


def test_the_pause_of_a_node_is_not_held_against_the_others() -> None:
    node = gossip("a", "b", "c")
    run(node, 1.0)
    for id_ in node.watched:
        node.received(beat(id_), 1.0)
    node.received(beat("b", suspect("a")), 1.0)
    until = node._suspicions["a"].until
    probes = node.statistics.failed
    node.tick(61.0)
    assert node.statistics.overslept == 1
    assert node._suspicions["a"].until > until + 59
    assert node.statistics.failed == probes, "no probe failed: nobody was there to hear the answer"
    assert all(phi.phi(61.0) < CONFIG.phi for phi in node._phis.values())


def test_who_is_no_member_is_known_while_it_answers_and_forgotten_when_dead() -> None:
    node = gossip("a", "b")
    node.sync(peers("me", "b"))
    node.tick(0.0)
    assert node.state("a") is State.ALIVE, "it may be cut off from the Store alone"
    node.received(beat("b", dead("a")), 1.0)
    run(node, 60.0)
    assert node.state("a") is State.DEAD
    run(node, 62.0)
    assert node.state("a") is None


def test_a_dead_member_is_visited_so_that_it_can_say_that_it_lives() -> None:
    node = gossip("a", "b")
    node.received(beat("b", dead("a")), 0.0)
    visits = [send for send in run(node, 5.0) if send.to == "a"]
    assert visits
    assert all(
        any(rumor.id == "a" and rumor.state is State.DEAD for rumor in v.message.rumors) for v in visits
    )


def test_loads_are_told_and_passed_on() -> None:
    node = gossip("a", "b", "c")
    node.loads.load = 7
    node.received(Beat("a", (LoadReport("a", 5, 50), LoadReport("b", 9, 90), LoadReport("?", 1, 1)), ()), 0.0)
    node.received(Beat("b", (LoadReport("a", 4, 40),), ()), 0.0)
    assert (node.loads.get("a"), node.loads.get("b"), node.loads.get("?")) == (50, 90, None)
    told = {report for send in node.tick(0.0) for report in send.message.loads}
    assert told == {LoadReport("me", 1, 7), LoadReport("a", 5, 50), LoadReport("b", 9, 90)}


def test_messages_are_bounded_and_foreign_bytes_are_refused() -> None:
    message = Ping("me", (LoadReport("me", 1, 2),), (alive("a"), suspect("b")), 3, "a")
    assert decode(encode(message)) == message
    for wrong in (b"", b"\x90", encode((1, "x")), encode((0, "x" * 65, (), ())), encode(9)):  # type: ignore[arg-type]
        with pytest.raises(msgspec.DecodeError):
            decode(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"period_s": 0},
        {"timeout_s": 0.5},
        {"watchers": 17},
        {"max_rumors": 0},
        {"phi": 0},
        {"spread": 0.5},
        {"max_members": 0},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidConfiguration):
        DetectionConfig(**wrong)  # type: ignore[arg-type]
