"""What a run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InvalidArgument
from .plan import CLASSES, DEFAULT_CLASSES
from .workloads import WORKLOADS

__all__ = ["VerifyConfig"]

_ISOLATIONS = ("read committed", "repeatable read", "serializable")


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """A run of `coterie verify`. Validated on construction, by `InvalidArgument`."""

    engine: str
    """The name of an engine that the laboratory knows, `sqlite`, or the URL of one that runs."""
    members: int = 3
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    """Those that the engine does not offer are left out."""
    faults: tuple[str, ...] = DEFAULT_CLASSES
    """Those that cannot be done to the engine are left out."""
    time_s: float = 60.0
    """How long there are clients and faults; starting, healing and the last reads come on top."""
    clients: int = 8
    rate_per_s: float = 10.0
    """How many actions a client begins in a second at most, in each workload."""
    seed: int = 0
    raw: bool = False
    """Through the engine's plain client library, rather than through the port."""
    isolation: str = "serializable"
    """The isolation level of raw transactions, for engines that have several."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the engine's own, by its names."""
    recovery_s: float = 30.0
    """How long after the last fault each client has until it must have succeeded again."""

    def __post_init__(self) -> None:
        if self.members not in {1, 3}:
            raise InvalidArgument(f"members is 1 or 3, not {self.members}")
        _known(self.workloads, WORKLOADS, "workload")
        if not self.workloads:
            raise InvalidArgument("no workload is asked for", hint=f"there are {', '.join(WORKLOADS)}")
        _known(self.faults, CLASSES, "class of faults")
        if not 1 <= self.time_s <= 86_400:
            raise InvalidArgument(f"time_s is from 1 to 86,400, not {self.time_s:g}")
        if not 1 <= self.clients <= 64:
            raise InvalidArgument(f"clients is from 1 to 64, not {self.clients}")
        if not 0.1 <= self.rate_per_s <= 1000:
            raise InvalidArgument(f"rate_per_s is from 0.1 to 1,000, not {self.rate_per_s:g}")
        if self.isolation not in _ISOLATIONS:
            raise InvalidArgument(
                f"isolation is {self.isolation!r}", hint=f"expected one of {', '.join(_ISOLATIONS)}"
            )
        if self.recovery_s <= 0:
            raise InvalidArgument(f"recovery_s is above 0, not {self.recovery_s:g}")


def _known(names: tuple[str, ...], known: Mapping[str, object], what: str) -> None:
    for name in names:
        if name not in known:
            raise InvalidArgument(f"there is no {what} {name!r}", hint=f"there are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise InvalidArgument(f"a {what} is named twice: {', '.join(names)}")
