"""The wire between machines: msgpack frames over TCP, Unix sockets and TLS. See docs/wire-format.md."""

from .config import WireConfig
from .wire import TcpWire

__all__ = ["TcpWire", "WireConfig"]
