"""The SQLite engine: durable and linearizable on one machine, for one process or several."""

from .config import SqliteConfig
from .engine import SqliteEngine, open_engine

__all__ = ["SqliteConfig", "SqliteEngine", "open_engine"]
