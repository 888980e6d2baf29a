"""Runs an app as one member of a cluster: the composition root."""

from .config import NodeConfig, resolve
from .connection import Connection, connect
from .engines import Ports, check_guarantees, open_engine, open_ports
from .mount import MountedNode, asgi
from .node import Node
from .system import NodeFacts, NodeStatus

__all__ = [
    "Connection",
    "MountedNode",
    "Node",
    "NodeConfig",
    "NodeFacts",
    "NodeStatus",
    "Ports",
    "asgi",
    "check_guarantees",
    "connect",
    "open_engine",
    "open_ports",
    "resolve",
]
