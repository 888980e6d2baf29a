"""Redis and Valkey: one primary, `Store` and `Log`."""

from __future__ import annotations

from .config import RedisConfig
from .engine import RedisEngine, open_engine

__all__ = ["RedisConfig", "RedisEngine", "open_engine"]
