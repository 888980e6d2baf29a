"""The memory engine: the reference of each port, for tests and for one process that may forget."""

from .engine import MemoryEngine, open_engine
from .log import MemoryLog
from .network import MemoryNetwork
from .store import MemoryStore
from .wire import MemoryWire

__all__ = ["MemoryEngine", "MemoryLog", "MemoryNetwork", "MemoryStore", "MemoryWire", "open_engine"]
