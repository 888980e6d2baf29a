"""The PostgreSQL engine: durable and linearizable for any number of machines, on a database they share."""

from .config import PostgresConfig
from .engine import PostgresEngine, open_engine

__all__ = ["PostgresConfig", "PostgresEngine", "open_engine"]
