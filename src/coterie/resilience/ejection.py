"""Which targets are left out because they fail. Pure: time is an input.

A breaker for each target, and bounds on what they may do together, as Envoy's outlier detection has
them: never more than a part of the targets is ejected, and when too few are healthy nobody is, because
then the fault is elsewhere and the healthy few would be overrun.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import InvalidConfiguration
from .balance import Target
from .breaker import Breaker, BreakerConfig, BreakerState

__all__ = ["Ejection", "EjectionConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionConfig:
    """How many targets may be left out at once."""

    most: float = 0.5
    """The part of the targets that may be ejected, at most half, rounded down: of three targets one."""
    panic: float = 0.3
    """With a smaller part than this whose breaker is closed, nobody is ejected."""

    def __post_init__(self) -> None:
        if not 0 <= self.most <= 0.5 or not 0 <= self.panic <= 1:
            raise InvalidConfiguration(
                f"never more than half may be ejected: most from 0 to 0.5, panic from 0 to 1, not {self}"
            )


class Ejection:
    """The breakers of all targets of one service."""

    def __init__(self, breaker: BreakerConfig | None = None, config: EjectionConfig | None = None) -> None:
        self._breaker = breaker or BreakerConfig()
        self._config = config or EjectionConfig()
        self._breakers: dict[str, Breaker] = {}
        self.troubled: int = 0
        """How many breakers are not closed; while there is none `admitted` costs nothing."""

    def of(self, address: str) -> Breaker:
        """Return the breaker of a target."""
        breaker = self._breakers.get(address)
        if breaker is None:
            breaker = self._breakers[address] = Breaker(self._breaker)
        return breaker

    def retain(self, addresses: Iterable[str]) -> None:
        """Forget targets that are gone."""
        known = set(addresses)
        self._breakers = {address: b for address, b in self._breakers.items() if address in known}
        self._count()

    def record(
        self, address: str, now: float, *, failed: bool, took_s: float, breaker: Breaker | None = None
    ) -> BreakerState | None:
        """Count a call that ended; return the new state of the target's breaker if it changed.

        `breaker` is the one that the call began with, where the target may be gone since.
        """
        breaker = breaker or self.of(address)
        changed = breaker.record(now, failed=failed, took_s=took_s)
        if changed is not None:
            self._count()
        return changed

    def admitted(self, targets: Sequence[Target], now: float) -> Sequence[Target]:
        """Return the targets that may be called. Empty only if `targets` is."""
        if not self.troubled:
            return targets
        closed = [t for t in targets if self.of(t.address).state is BreakerState.CLOSED]
        if len(closed) < self._config.panic * len(targets):
            return targets
        shut = [t for t in targets if not self.of(t.address).would_admit(now)]
        # Whoever is nearest to its next probe is let in first.
        shut.sort(key=lambda target: self.of(target.address).wait_s(now), reverse=True)
        ejected = {target.address for target in shut[: int(self._config.most * len(targets))]}
        return [target for target in targets if target.address not in ejected]

    def _count(self) -> None:
        self.troubled = sum(b.state is not BreakerState.CLOSED for b in self._breakers.values())
