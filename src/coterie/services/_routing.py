"""Which endpoint takes the next call, and what a caller learns from how its calls end. Pure: time and
chance are inputs.

A `Router` puts decisions of `coterie.resilience` together: who is there (draining endpoints are not) and
not thought to be dead, whose breaker lets calls through (`Ejection`), and who of those is expected to
answer first (a `Balancer` over `Loads`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..resilience import (
    Balancer,
    Breaker,
    BreakerConfig,
    BreakerState,
    Ejection,
    EjectionConfig,
    Loads,
    PolicyEventKind,
    PowerOfTwo,
    Target,
)
from ..resilience.balance import Load

__all__ = ["Endpoint", "Peer", "Router"]

_LOOK_S = 0.01
"""Of quick calls that succeed, one in so many seconds is looked at; the others are only counted."""
_OUTRUN = 2.0
"""An attempt that a hedge has overtaken is believed to take so many times what it was given."""
_LEAST_S, _REFUSED_S = 0.005, 1.0
"""What an endpoint that turned calls away is believed to take: twice as long each time, within these."""
_PANIC = 0.3
"""If a smaller part than this is above suspicion nobody is avoided: the fault is elsewhere, here perhaps."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A node that takes calls to a service."""

    node: str
    address: str
    zone: str = ""
    weight: float = 1.0
    suspected: bool = False
    """Whether it is thought to be dead: it is called last."""


class Peer:
    """What one caller knows of one endpoint.

    A call adds 1 to `load.pending` and takes it away at its end. One that succeeded before `quiet_until`
    and took at most `peak_s` is counted in `fine`; any other end is told to the router.
    """

    __slots__ = ("address", "breaker", "fine", "load", "peak_s", "quiet_until")

    def __init__(self, address: str, load: Load, breaker: Breaker | None) -> None:
        self.address: str = address
        self.load: Load = load
        self.breaker: Breaker | None = breaker
        self.fine: int = 0
        self.quiet_until: float = -math.inf
        self.peak_s: float = 0.0


class Router:
    """Chooses among the live endpoints of one service.

    `tell` is called when a breaker changes or an endpoint is left out.
    """

    def __init__(
        self,
        breaker: BreakerConfig | None = None,
        ejection: EjectionConfig | None = None,
        *,
        balancer: Balancer | None = None,
        tell: Callable[[PolicyEventKind, str], None] | None = None,
    ) -> None:
        self._balancer: Balancer = balancer or PowerOfTwo()
        self._slow_s = math.inf if breaker is None else breaker.slow_s
        self._ejection = None if breaker is None else Ejection(breaker, ejection)
        self._loads = Loads()
        self._tell = tell
        self._targets: tuple[Target, ...] = ()
        self._peers: dict[str, Peer] = {}
        self._ejected: frozenset[str] = frozenset()
        self._doubted: frozenset[str] = frozenset()
        self.seen: Sequence[Endpoint] = ()
        """The endpoints of the last `update`."""
        self.only: Peer | None = None
        """The endpoint to call if there is just one: then there is nothing to choose."""

    def update(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take in which endpoints there are now."""
        self.seen = endpoints
        self._targets = tuple(Target(each.address, each.zone, each.weight) for each in endpoints)
        addresses = [each.address for each in endpoints]
        # A new node may have the address of a dead one.
        self._doubted = frozenset(each.address for each in endpoints if each.suspected).difference(
            each.address for each in endpoints if not each.suspected
        )
        self._loads.retain(addresses, now)
        if self._ejection is not None:
            self._ejection.retain(addresses)
        self._peers = {address: self._peers.get(address) or self._peer(address) for address in addresses}
        self.only = self._peers[addresses[0]] if len(addresses) == 1 else None

    def _peer(self, address: str) -> Peer:
        breaker = None if self._ejection is None else self._ejection.of(address)
        return Peer(address, self._loads.of(address), breaker)

    def choose(
        self, tried: Collection[str], *, now: float, chance: float, key: str | None = None
    ) -> Peer | None:
        """Return whom to call, or None when each endpoint is in `tried`. `chance` is uniform in [0, 1)."""
        targets: Sequence[Target] = self._targets
        ejection = self._ejection
        if ejection is not None and ejection.troubled:
            targets = ejection.admitted(targets, now)
            if self._tell is not None:
                self._note_ejected(targets)
        if self._doubted:
            trusted = [target for target in targets if target.address not in self._doubted]
            if trusted and len(trusted) >= _PANIC * len(self._targets):
                targets = trusted
        if tried:
            fresh = [target for target in targets if target.address not in tried]
            # One that is left out is still better than none.
            targets = fresh or [target for target in self._targets if target.address not in tried]
        if not targets:
            return None
        chosen = self._balancer.choose(targets, self._loads, now=now, chance=chance, key=key)
        peer = self._peers[chosen.address]
        if peer.breaker is not None and peer.breaker.state is not BreakerState.CLOSED:
            before = peer.breaker.state
            peer.breaker.admit(now)
            peer.quiet_until = -math.inf
            if peer.breaker.state is not before and self._tell is not None:
                self._tell(PolicyEventKind(peer.breaker.state.value), peer.address)
        return peer

    def succeeded(self, peer: Peer, now: float, took_s: float) -> None:
        """Count a call that was answered at `now` after `took_s`."""
        self._loads.measured(peer.load, now, took_s, failed=False)
        quiet = True
        if peer.breaker is not None:
            self._record(peer, peer.breaker, now, took_s, failed=False)
            quiet = peer.breaker.state is BreakerState.CLOSED
        peer.quiet_until = now + _LOOK_S if quiet else -math.inf
        peer.peak_s = min(peer.load.latency.seconds, self._slow_s)

    def failed(self, peer: Peer, now: float, took_s: float) -> None:
        """Count a call that failed, in a way that speaks against the endpoint.

        It counts as a slow one as well, so that others are preferred at once.
        """
        self._loads.measured(peer.load, now, took_s, failed=True)
        if peer.breaker is not None:
            self._record(peer, peer.breaker, now, took_s, failed=True)

    def abandoned(self, peer: Peer, now: float, took_s: float) -> None:
        """Count a call that was given up: all that is known is that it would have taken longer."""
        if took_s > peer.load.latency.seconds:
            self._loads.measured(peer.load, now, took_s, failed=False)
        self.unused(peer, now, took_s)

    def unused(self, peer: Peer, now: float, took_s: float) -> None:
        """Take back a call of which nothing is known: it was not made, or only waited for."""
        if peer.breaker is not None:
            peer.breaker.forget(now, took_s=took_s)

    def streamed(self, peer: Peer, now: float, took_s: float) -> None:
        """Count a stream whose first item has come: the endpoint works.

        How long that took says nothing of how quick it is: there may have been no item before.
        """
        if peer.breaker is not None:
            self._record(peer, peer.breaker, now, min(took_s, self._slow_s), failed=False)

    def refused(self, peer: Peer, now: float, took_s: float) -> None:
        """Count a call that the endpoint turned away because it has too much to do.

        Others are preferred, the more the more often it happens. It is not left out for it: it works, and
        without it the others would have too much to do, so that they would be left out next.
        """
        usual_s = max(peer.load.latency.seconds, took_s, _LEAST_S)
        self._loads.measured(peer.load, now, min(_OUTRUN * usual_s, _REFUSED_S), failed=False)
        if peer.breaker is not None:
            peer.breaker.forget(now, took_s=took_s)

    def outrun(self, peer: Peer, now: float, took_s: float) -> None:
        """Count a call that was given up because another endpoint, asked later, answered first.

        It would have taken longer than `took_s`, nobody knows how much. Without this, hedges would make
        a slow endpoint look hardly slower than the others, and it would go on getting calls.
        """
        self._loads.measured(peer.load, now, _OUTRUN * took_s, failed=False)

    def _record(self, peer: Peer, breaker: Breaker, now: float, took_s: float, *, failed: bool) -> None:
        assert self._ejection is not None  # noqa: S101 - the breaker is one of its
        if peer.fine:
            breaker.succeeded(now, peer.fine)
            peer.fine = 0
        changed = self._ejection.record(peer.address, now, failed=failed, took_s=took_s, breaker=breaker)
        if changed is not None:
            peer.quiet_until = -math.inf
            if self._tell is not None:
                self._tell(PolicyEventKind(changed.value), peer.address)

    def _note_ejected(self, admitted: Sequence[Target]) -> None:
        assert self._tell is not None  # noqa: S101 - the caller has looked
        ejected = frozenset(self._peers).difference(target.address for target in admitted)
        for address in sorted(ejected - self._ejected):
            self._tell(PolicyEventKind.EJECT, address)
        self._ejected = ejected
