"""What must hold of a crowd of machines, as functions of the machine: the mutants break it."""

from __future__ import annotations

from itertools import islice, permutations

from gossip_network import Network, name

from coterie.detection import DetectionConfig, Gossip, Known, State
from coterie.detection.messages import Beat, Rumor

__all__ = [
    "a_cut_link_is_no_death",
    "a_death_is_noticed",
    "a_sleeper_buries_nobody",
    "all_come_to_the_same_view",
    "halves_find_together",
    "messages_stay_small",
    "slow_nodes_blame_nobody",
    "the_pause_was_its_own",
]

Machine = type[Gossip]
DEFAULTS = DetectionConfig()


def all_come_to_the_same_view(machine: Machine, config: DetectionConfig, heard: list[Rumor]) -> None:
    """Whatever the order of the news."""

    def view(order: list[Rumor]) -> dict[str, tuple[State, int]]:
        node = machine(Known("me", "me", "me:1"), config, now=0.0, chance=lambda bound: 0)
        node.sync({id_: Known(id_, "x", "x:1") for id_ in "abcd"})
        for rumor in order:
            node.received(Beat("c", (), (rumor,)), 0.0)
        return {
            id_: (known.state, 0 if known.state is State.LEFT else known.incarnation)
            for id_, known in node.table.members.items()
        }

    for order in islice(permutations(heard), 0, None, 7):
        assert view(list(order)) == view(heard)


def a_death_is_noticed(machine: Machine, config: DetectionConfig, size: int = 50, seed: int = 4) -> None:
    """By all within 2.5 s, nobody else is suspected, and soon it is held to be dead."""
    network = Network(size, seed=seed, machine=machine, config=config)
    network.run(3.0)
    network.kill(name(1))
    began = network.now
    network.run(5.0, until=lambda: network.all_say(name(1), State.SUSPECT, State.DEAD))
    assert network.now - began < 2.5
    network.run(2.5 + 2 * config.suspicion_s(size)[0], until=lambda: network.all_say(name(1), State.DEAD))
    assert network.all_say(name(1), State.DEAD)
    assert network.blamed() == {name(1)}


def slow_nodes_blame_nobody(machine: Machine, config: DetectionConfig) -> None:
    """5 % of the nodes take half a second to almost two for each message that they receive or send."""
    network = Network(200, seed=11, machine=machine, config=config)
    slow = {name(number) for number in range(0, 200, 20)}

    def latency_s(sender: str, to: str) -> float:
        return 0.002 + sum(0.5 + 1.3 * network.random.random() for end in (sender, to) if end in slow)

    network.latency_s = latency_s
    network.run(20.0)
    assert len(network.blamed() - slow) / (200 - len(slow)) < 0.01, "of the healthy nodes, in 40 periods"
    assert not {about for _, _, about, state in network.heard if state is State.DEAD} - slow


def halves_find_together(machine: Machine, config: DetectionConfig) -> None:
    """Two halves that held each other to be dead, once the network is whole again."""
    network = Network(12, seed=3, machine=machine, config=config)
    network.run(3.0)
    half = {name(number) for number in range(6)}
    network.cut = lambda sender, to: (sender in half) != (to in half)

    def apart() -> bool:
        return all(
            node.state(id_) is State.DEAD
            for id_ in network.nodes
            for other, node in network.nodes.items()
            if (other in half) != (id_ in half)
        )

    network.run(30.0, until=apart)
    assert apart()
    network.cut = lambda sender, to: False
    network.run(30.0, until=lambda: all(network.all_say(id_, State.ALIVE) for id_ in network.nodes))
    assert all(network.all_say(id_, State.ALIVE) for id_ in network.nodes)


def a_cut_link_is_no_death(machine: Machine, config: DetectionConfig) -> None:
    """Two nodes that do not reach each other hear from the others that both live."""
    network = Network(5, seed=8, machine=machine, config=config)
    network.cut = lambda sender, to: {sender, to} == {name(1), name(2)}
    network.run(20.0)
    assert not network.blamed()


def the_pause_was_its_own(machine: Machine, config: DetectionConfig) -> None:
    """A node that was paused is suspected, refutes that when it is back, and blames nobody."""
    network = Network(5, seed=9, machine=machine, config=config)
    network.run(3.0)
    network.kill(name(2))
    network.run(4.0)
    network.resume(name(2))
    network.run(10.0, until=lambda: network.all_say(name(2), State.ALIVE))
    assert network.all_say(name(2), State.ALIVE)
    assert network.blamed() == {name(2)}


def a_sleeper_buries_nobody(machine: Machine, config: DetectionConfig) -> None:
    """A suspicion that a node had when it was paused goes on from there: nobody could refute it to it."""
    node = machine(Known("me", "me", "me:1"), config, now=0.0, chance=lambda bound: 0)
    node.sync({id_: Known(id_, "x", f"{id_}:1") for id_ in "abcd"})
    node.received(Beat("b", (), (Rumor("a", State.SUSPECT, 0, "b"),)), 0.1)
    node.tick(60.0)
    assert node.state("a") is State.SUSPECT


def messages_stay_small(machine: Machine, config: DetectionConfig) -> None:
    """Also where there is much news: at first all know nobody but one."""
    network = Network(100, machine=machine, config=config, acquainted=False)
    for node in network.nodes.values():
        node.sync({name(0): network.nodes[name(0)].me})
    network.run(3.0)
    assert network.largest <= config.max_rumors + 2 + 1 + config.max_loads
