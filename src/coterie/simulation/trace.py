"""The trace of a universe: a rolling 64-bit hash of everything that happened, and on demand the events.

Two runs of one seed must have the same hash. It mixes integers and floats with the hash of tuples
(xxHash with a fixed seed since CPython 3.8), which does not depend on PYTHONHASHSEED, and costs a
tenth of a microsecond an event; text goes in by its CRC.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any
from zlib import crc32

__all__ = ["Event", "Trace"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: for diagrams and for finding where two runs part."""

    time_s: float
    host: str
    kind: str
    """`packet`, `lost`, `reset`, `start`, `exit`, `kill`, `pause`, `resume`, `fault`, `heal`, `note`, ..."""
    detail: dict[str, Any]


class Trace:
    """Collects what the loop, the network and the world report.

    `events` are kept only when `keep` is above 0, and then the newest `keep` of them.
    """

    __slots__ = ("count", "events", "hash", "recording")

    def __init__(self, keep: int = 0) -> None:
        self.hash: int = 0
        self.count: int = 0
        """How many events were mixed in by `mark`; the loop counts its callbacks itself."""
        self.recording: bool = keep > 0
        self.events: deque[Event] = deque(maxlen=keep or None)

    def mark(self, time_s: float, host: str, kind: str, **detail: Any) -> None:
        """Mix in an event, and keep it when the trace is recorded. Details do not enter the hash."""
        self.count += 1
        self.hash = hash((self.hash, time_s, crc32(host.encode()), crc32(kind.encode())))
        if self.recording:
            self.events.append(Event(time_s, host, kind, detail))

    def note(self, time_s: float, host: str, kind: str, **detail: Any) -> None:
        """Keep an event that the hash knows by other means. Ask for `recording` first: it is quicker."""
        if self.recording:
            self.events.append(Event(time_s, host, kind, detail))

    def mix(self, number: float) -> None:
        """Mix in a number."""
        self.hash = hash((self.hash, number))

    def mix_bytes(self, data: bytes) -> None:
        """Mix in the contents of `data`."""
        self.hash = hash((self.hash, crc32(data)))

    def digest(self) -> str:
        """Return the hash as 16 hexadecimal digits."""
        return f"{self.hash & 0xFFFF_FFFF_FFFF_FFFF:016x}"
