"""What detection costs and how quick it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InvalidConfiguration
from ._phi_machine import PhiConfig

__all__ = ["DetectionConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionConfig:
    """The periods and bounds of detection. What is not a time does not depend on the size of the cluster,
    or only by its logarithm."""

    period_s: float = 0.5
    """How often a node sends heartbeats and probes one other."""
    timeout_s: float = 0.2
    """How long a probe waits for its answer before others are asked to probe as well."""
    watchers: int = 3
    """To how many others each node sends its heartbeats."""
    helpers: int = 3
    """How many others are asked to probe a node that did not answer."""
    doubts: int = 3
    """How many probes in a row, each with more patience, may end in silence from everybody before the one
    that was probed is blamed, and not this node. Where nobody can be asked to help, one."""
    phi: float = 8.0
    """From this φ on, a silent node is probed out of turn."""
    max_rumors: int = 16
    """How many pieces of news one message carries at most. With 8, a thousand nodes that lose a tenth of
    their messages suspect each other faster than they can tell it, and other news waits for many periods."""
    max_loads: int = 4
    """Of how many others a message tells the load, besides the sender's own."""
    spread: float = 4.0
    """A piece of news is sent on `spread * log10(members)` times by each node."""
    suspicion: float = 4.0
    """A suspicion that enough others confirm lasts `suspicion * log10(members)` periods, at least so many."""
    patience: float = 6.0
    """A suspicion that nobody confirms lasts so many times longer."""
    confirmations: int = 3
    """How many others make a suspicion as short as it gets."""
    max_health: int = 8
    """The worst mark that a node gives itself: its timeouts are then `1 + max_health` times as long."""
    forget_s: float = 60.0
    """How long a node that is dead and no member any more is remembered, so that no late news revives it."""
    max_members: int = 20_000

    def __post_init__(self) -> None:
        if not 0.01 <= self.period_s <= 3600:
            raise InvalidConfiguration(f"period_s must be between 0.01 and 3600 seconds, not {self.period_s}")
        if not 0 < self.timeout_s < self.period_s:
            raise InvalidConfiguration(f"timeout_s must lie between 0 and period_s, not {self.timeout_s}")
        for name, least, most in (
            ("watchers", 0, 16),
            ("helpers", 0, 16),
            ("doubts", 0, 16),
            ("max_rumors", 1, 32),
            ("max_loads", 0, 32),
            ("confirmations", 0, 16),
            ("max_health", 0, 64),
            ("max_members", 1, 1_000_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise InvalidConfiguration(
                    f"{name} must be from {least} to {most}, not {getattr(self, name)}"
                )
        if (
            not 0.5 <= self.phi <= 100
            or self.spread < 1
            or self.suspicion < 1
            or self.patience < 1
            or self.forget_s < 0
        ):
            raise InvalidConfiguration(
                f"0.5 <= phi <= 100, spread, suspicion and patience >= 1 must hold: not {self}"
            )

    @classmethod
    def every(cls, period_s: float) -> DetectionConfig:
        """Return the defaults, scaled to another period."""
        try:
            return cls(period_s=period_s, timeout_s=0.4 * period_s)
        except InvalidConfiguration as error:
            raise InvalidConfiguration(f"gossip_s: {error.message}", hint="0 turns it off") from error

    @property
    def heartbeats(self) -> PhiConfig:
        """What to expect of heartbeats."""
        period_s = self.period_s
        return PhiConfig(expected_s=period_s, least_deviation_s=period_s / 5, longest_s=8 * period_s)

    def repeats(self, members: int) -> int:
        """Return how often a node sends one piece of news, in a cluster of so many."""
        return math.ceil(self.spread * math.log10(members + 1))

    def suspicion_s(self, members: int) -> tuple[float, float]:
        """Return how long a suspicion lasts at least and at most."""
        least_s = self.suspicion * max(1.0, math.log10(max(members, 1))) * self.period_s
        return least_s, least_s * self.patience
