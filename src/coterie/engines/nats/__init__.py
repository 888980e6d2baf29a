"""NATS JetStream: one server or a cluster, `Store` and `Log`."""

from __future__ import annotations

from .config import NatsConfig
from .engine import NatsEngine, open_engine

__all__ = ["NatsConfig", "NatsEngine", "open_engine"]
