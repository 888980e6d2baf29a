"""The fabric: the hosts' network stacks by address, the links between them, partitions and DNS."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from ...errors import InvalidArgument
from ..loop import VirtualLoop
from ..tape import Tape
from .links import LOOPBACK, PERFECT, Conditions, Cut, Disturbance, Link
from .stack import Stack

if TYPE_CHECKING:
    from ..scope import Scope

__all__ = ["Fabric"]


class Fabric:
    """The network of one universe."""

    def __init__(self, loop: VirtualLoop, tape: Tape, conditions: Conditions | None = None) -> None:
        self.loop = loop
        self.conditions: Conditions = conditions or Conditions()
        """Those of links that have none of their own."""
        self.dns: dict[str, tuple[str, ...]] = {}
        """Names besides those of the hosts, each with the hosts or addresses that it stands for."""
        self.without_dns: set[str] = set()
        """The hosts whose questions to a name server are not answered."""
        self.tape = tape
        self._stacks: dict[str, Stack] = {}
        self._by_address: dict[str, Stack] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._own: dict[tuple[str, str], Conditions] = {}
        self._cuts: list[Cut] = []
        self._disturbances: list[Disturbance] = []
        self.world: Stack = self.attach(loop.world.name, 0)
        loop.world.stack = self.world

    def attach(self, name: str, number: int) -> Stack:
        """Give a new host a network stack. Its address is 10.0.0.0 plus its number, from 1."""
        address = str(IPv4Address("10.0.0.0") + (number or 0xFFFE))
        stack = Stack(self, name, number, address)
        self._stacks[name] = self._by_address[address] = stack
        return stack

    def stack_of(self, scope: Scope) -> Stack:
        """Return the network stack that code in `scope` uses."""
        stack = scope.stack
        return self.world if stack is None else stack

    def link(self, source: Stack, target: Stack) -> Link:
        """Return the link from `source` to `target`."""
        pair = (source.name, target.name)
        found = self._links.get(pair)
        if found is None:
            stream = self.tape.stream(f"link/{source.name}>{target.name}")
            found = Link(*pair, self._conditions_of(pair), stream)
            found.judge(self._cuts)
            self._links[pair] = found
        return found

    def _conditions_of(self, pair: tuple[str, str]) -> Conditions:
        conditions = self.undisturbed(pair)
        for each in self._disturbances:
            if pair in each.pairs:
                conditions = dataclasses.replace(conditions, **each.changes)
        return conditions

    def undisturbed(self, pair: tuple[str, str]) -> Conditions:
        """Return the conditions of the link (from, to) but for what faults do to it."""
        if pair in self._own:
            return self._own[pair]
        if pair[0] == pair[1]:
            return LOOPBACK
        return PERFECT if self.world.name in pair else self.conditions

    def set_conditions(self, conditions: Conditions, pair: tuple[str, str] | None = None) -> None:
        """Set the conditions of one link (from, to), or of all between hosts that have none of their own."""
        if pair is None:
            self.conditions = conditions
        else:
            self._own[pair] = conditions
        self._judge_conditions()

    def disturb(self, disturbance: Disturbance) -> None:
        """Change conditions until `settle`. Of two disturbances the later one prevails where both reach."""
        self._disturbances.append(disturbance)
        self._judge_conditions()

    def settle(self, disturbance: Disturbance) -> None:
        """End a disturbance; others stay as they are. Idempotent."""
        if disturbance in self._disturbances:
            self._disturbances.remove(disturbance)
        self._judge_conditions()

    def _judge_conditions(self) -> None:
        for pair, link in self._links.items():
            link.conditions = self._conditions_of(pair)

    def cut(self, cut: Cut) -> None:
        """Let nothing through where `cut` says. Cuts add up."""
        self._cuts.append(cut)
        self._judge()

    def mend(self, cuts: Iterable[Cut] | None = None) -> None:
        """Take away `cuts`, or all of them."""
        gone = list(self._cuts if cuts is None else cuts)
        for cut in gone:
            if cut in self._cuts:
                self._cuts.remove(cut)
        self._judge()

    def _judge(self) -> None:
        for link in self._links.values():
            link.judge(self._cuts)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return tuple(self._cuts)

    # Names and addresses.

    def locate(self, source: Stack, address: str) -> Stack | None:
        """Return the stack that `source` reaches at `address`, an IP address, or None for nobody's."""
        if address.startswith("127.") or address == "0.0.0.0":  # noqa: S104 - it stands for this host
            return source
        return self._by_address.get(address)

    def resolve(self, source: Stack, name: str) -> tuple[str, ...]:
        """Return the addresses that `name` has for a program on `source`.

        Raises `socket.gaierror` for a name that nobody has.
        """
        if name in {"localhost", "localhost.localdomain"}:
            return ("127.0.0.1",)
        try:
            return (str(IPv4Address(name)),)
        except ValueError:
            pass
        if name in self.dns:
            found = [self._stacks[each].address if each in self._stacks else each for each in self.dns[name]]
        elif name in self._stacks:
            found = [self._stacks[name].address]
        else:
            found = []
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return tuple(found)

    def name_of(self, address: str) -> str:
        """Return the name of the host at `address`, or the address itself."""
        stack = self._by_address.get(address)
        return address if stack is None else stack.name

    def get(self, name: str) -> Stack:
        """Return the stack of the host `name`."""
        try:
            return self._stacks[name]
        except KeyError:
            known = ", ".join(sorted(self._stacks))
            raise InvalidArgument(f"there is no host called {name!r}; there are {known}") from None
