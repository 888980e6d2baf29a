"""What a system promises, and so which violations are failures and which were to be expected."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..ports import Consistency, Durability, LogGuarantees, StoreGuarantees
from .workload import Promise

__all__ = ["Terms"]

_OUTLIVED = {
    "kill": Durability.PROCESS_CRASH,
    "restart": Durability.PROCESS_CRASH,
    "failover": Durability.MACHINE_LOSS,
}
"""What a write must outlive to outlive a fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """The promises of one system. `exceptions` maps (workload, promise) to why it is not made."""

    consistency: Consistency = Consistency.LINEARIZABLE
    store_durability: Durability
    log_durability: Durability
    exceptions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Caveats of the engine's own, for the reader."""

    @classmethod
    def of(cls, store: StoreGuarantees, log: LogGuarantees | None) -> Terms:
        """Return what the ports of an engine promise."""
        return cls(
            consistency=store.consistency,
            store_durability=store.durability,
            log_durability=store.durability if log is None else log.durability,
            notes=tuple(dict.fromkeys((*store.notes, *(() if log is None else log.notes)))),
        )

    def why_not(self, workload: str, promise: Promise, faults: Collection[str]) -> str:
        """Return why a promise is not made in a run in which `faults` happened; empty if it is made."""
        if promise.never:
            return promise.never
        if exception := self.exceptions.get((workload, promise.name)):
            return exception
        if volatile := self.why_not_durable(workload, faults):
            return volatile
        if self.consistency < Consistency.LINEARIZABLE:
            return f"reads are {self.consistency}, not {Consistency.LINEARIZABLE}"
        return ""

    def why_not_durable(self, workload: str, faults: Collection[str]) -> str:
        """Return which of `faults` asks for more than writes outlive; empty if none does."""
        durability = self.log_durability if workload == "log" else self.store_durability
        for fault in sorted(faults):
            needed = _OUTLIVED.get(fault, Durability.NONE)
            if durability < needed:
                outlived = durability or "nothing"
                return f"{fault}: writes outlive {outlived} here, not {needed}"
        return ""
