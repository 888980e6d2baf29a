"""The network that memory wires share, and the hooks with which a test breaks it."""

from __future__ import annotations

from ...errors import InvalidConfiguration, Outcome, Unavailable
from .wire import MemoryListener, MemoryWire

__all__ = ["MemoryNetwork"]


class MemoryNetwork:
    """Carries the calls between the nodes of one process, each with a wire of its own.

    Addresses are `memory:name`. `cut` and `mend` break and restore the link between two nodes, `kill`
    ends a node's wire as a crash would.
    """

    def __init__(self) -> None:
        self._wires: dict[str, MemoryWire] = {}
        self._listeners: dict[str, MemoryListener] = {}
        self._cuts: set[frozenset[str]] = set()
        self._last_free = 0

    def wire(self, node: str) -> MemoryWire:
        """Return a new wire for the node of that name, which no other open wire may have."""
        if node in self._wires:
            raise InvalidConfiguration(f"the network has an open wire called {node!r} already")
        wire = self._wires[node] = MemoryWire(self, node)
        return wire

    def cut(self, a: str, b: str) -> None:
        """Break the link between two nodes: calls under way are lost, new ones find no way."""
        self._cuts.add(frozenset((a, b)))
        for caller, callee in ((a, b), (b, a)):
            if caller in self._wires:
                self._wires[caller].lose_calls(callee, f"the link between {caller} and {callee} was cut")

    def mend(self, a: str, b: str) -> None:
        """Restore the link between two nodes."""
        self._cuts.discard(frozenset((a, b)))

    def kill(self, node: str) -> None:
        """End the node's wire at once, with all its listeners, channels and handlers."""
        wire = self._wires.get(node)
        if wire is not None:
            wire.abort(f"the node {node} was killed")

    # What follows is for the wires.

    def bind(self, address: str, listener: MemoryListener) -> str:
        """Let `listener` answer at `address` and return it; for `memory:` and `memory:0`, at a free one."""
        scheme, colon, name = address.partition(":")
        if scheme != "memory" or not colon:
            raise InvalidConfiguration(
                f"{address!r} is no address of the memory wire", hint="write memory:name, or memory:0 for any"
            )
        if name in {"", "0"}:
            address = self._free_address()
        if address in self._listeners:
            raise InvalidConfiguration(f"{address!r} is in use", hint="memory:0 takes any free address")
        self._listeners[address] = listener
        return address

    def _free_address(self) -> str:
        while True:
            self._last_free += 1
            address = f"memory:{self._last_free}"
            if address not in self._listeners:
                return address

    def release(self, address: str) -> None:
        """Let the address be bound anew."""
        self._listeners.pop(address, None)

    def forget(self, node: str) -> None:
        """Let the name of a closed wire be used anew."""
        self._wires.pop(node, None)

    def reach(self, node: str, address: str) -> MemoryListener:
        """Return the listener at `address` as `node` sees it; raise `Unavailable` if it cannot be reached."""
        listener = self._listeners.get(address)
        if listener is None:
            raise Unavailable(f"nobody listens at {address}", outcome=Outcome.NOT_APPLIED)
        if frozenset((node, listener.node)) in self._cuts:
            raise Unavailable(
                f"the link between {node} and {listener.node} is cut", outcome=Outcome.NOT_APPLIED
            )
        return listener
