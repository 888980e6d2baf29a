"""The contracts between the blocks and the engines: value types, guarantees and protocols.

Each port lies in a file of its own with everything that belongs to it.
"""

from .clock import Clock
from .engine import Engine, OpenEngine
from .entropy import Entropy
from .guarantees import Consistency, Durability, Scope
from .log import Log, LogGuarantees
from .store import Store, StoreGuarantees
from .wire import Wire, WireGuarantees

__all__ = [
    "Clock",
    "Consistency",
    "Durability",
    "Engine",
    "Entropy",
    "Log",
    "LogGuarantees",
    "OpenEngine",
    "Scope",
    "Store",
    "StoreGuarantees",
    "Wire",
    "WireGuarantees",
]
