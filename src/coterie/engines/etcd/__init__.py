"""The etcd engine: a linearizable Store that outlives the loss of a minority of its machines."""

from .config import EtcdConfig
from .engine import EtcdEngine, open_engine

__all__ = ["EtcdConfig", "EtcdEngine", "open_engine"]
