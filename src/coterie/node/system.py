"""What a node tells about itself, over the same wire as everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from ..errors import CoterieError
from ..membership import Member
from ..ports import Wire
from ..ports.wire import Failure
from ..services import MethodSpec, describe

__all__ = ["SYSTEM", "GossipFacts", "NodeFacts", "NodeStatus", "System", "ask", "ask_all"]


class GossipFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a node thinks of the others, from heartbeats, probes and what it was told. Keys are ids."""

    suspects: dict[str, str]
    """`suspect`, or `dead`."""
    phis: dict[str, float]
    """How surprising the silence is of those whose heartbeats come here; 8 is one in 10^8."""
    loads: dict[str, int]
    """Calls under way at other nodes, as far as it was told."""
    health: int
    """How little it trusts its own judgement: 0 is well."""
    strangers: dict[str, str]
    """Name and address of those that live but are no members by the Store: it may be cut off from them."""


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A node's own account of itself."""

    id: str
    name: str
    app: str
    version: str
    uptime_s: float
    calls: int
    """How many calls it has answered."""
    pending: int
    """How many calls it is answering now."""
    ready: bool
    reasons: tuple[str, ...]
    """Why it is not ready."""
    members: int
    """How many members it sees, itself included."""
    engines: dict[str, dict[str, int | float | str]]
    gossip: GossipFacts | None = None
    """None where it is turned off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """A member as the store knows it, and what it said when asked: `facts`, or why there are none."""

    member: Member
    facts: NodeFacts | None
    error: str = ""


class System:
    """The service that every node offers to the others, outside of what the app declares."""

    def __init__(self, facts: Callable[[], NodeFacts]) -> None:
        self._facts = facts
        self._calls = 0

    async def ping(self) -> str:
        """Return the node's id."""
        self._calls += 1
        return self._facts().id

    async def suspects(self) -> list[str]:
        """Return the ids of the nodes that this one holds to be dead or suspects to be so."""
        self._calls += 1
        gossip = self._facts().gossip
        return [] if gossip is None else list(gossip.suspects)

    async def facts(self) -> NodeFacts:
        """Return the node's account of itself."""
        self._calls += 1
        # Who asks for the numbers does not want to be in them. No other call to this service can be
        # under way, since none waits for anything.
        facts = self._facts()
        return msgspec.structs.replace(
            facts, calls=max(0, facts.calls - self._calls), pending=max(0, facts.pending - 1)
        )


SYSTEM = describe(System, "_node")


async def ask(wire: Wire, address: str, method: MethodSpec, *, timeout_s: float) -> object:
    """Call a method without parameters of the system service at `address`, whatever the routing says."""
    channel = wire.connect(address)
    try:
        body = method.arguments.encode(method.arguments.type())
        return method.result.decode(await channel.request(method.target, body, timeout_s=timeout_s))
    finally:
        await channel.close()


async def ask_all(wire: Wire, members: Iterable[Member], *, timeout_s: float) -> list[NodeStatus]:
    """Ask all `members` at once for their facts."""

    async def status(member: Member) -> NodeStatus:
        try:
            facts = await ask(wire, member.address, SYSTEM.methods["facts"], timeout_s=timeout_s)
        except (CoterieError, Failure) as error:
            return NodeStatus(member=member, facts=None, error=str(error))
        assert isinstance(facts, NodeFacts)  # noqa: S101 - the codec of the method has checked it
        return NodeStatus(member=member, facts=facts)

    ordered = sorted(members, key=lambda member: (member.name, member.id))
    return list(await asyncio.gather(*(status(member) for member in ordered)))
