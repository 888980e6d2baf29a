"""The memory engine: the reference of each port, for tests and for one process that may forget."""

from .engine import MemoryEngine, open_engine
from .log import MemoryLog
from .store import MemoryStore

__all__ = ["MemoryEngine", "MemoryLog", "MemoryStore", "open_engine"]
