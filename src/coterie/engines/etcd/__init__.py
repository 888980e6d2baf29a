"""The etcd engine: a linearizable Store that outlives the loss of a minority of its machines."""

import os

# Read when gRPC is imported. Otherwise it writes a line to the terminal whenever this process starts another.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from .config import EtcdConfig
from .engine import EtcdEngine, open_engine

__all__ = ["EtcdConfig", "EtcdEngine", "open_engine"]
