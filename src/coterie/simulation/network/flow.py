"""Write flow control: when a protocol is told to pause and to go on, with asyncio's marks."""

from __future__ import annotations

import asyncio
from typing import Any

from ..loop import VirtualLoop

__all__ = ["FlowControl"]


class FlowControl(asyncio.Transport):
    """A transport that calls `pause_writing` above its high mark and `resume_writing` below its low one."""

    def __init__(self, loop: VirtualLoop, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._loop = loop
        self._protocol: Any = None
        self._protocol_paused = False
        self.set_write_buffer_limits()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (self._low_water, self._high_water)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_water, self._low_water = high, low
        self.maybe_pause()

    def maybe_pause(self) -> None:
        """Tell the protocol to pause if more waits to be written than the high mark."""
        if self.get_write_buffer_size() > self._high_water and not self._protocol_paused:
            self._protocol_paused = True
            self._tell(self._protocol.pause_writing)

    def maybe_resume(self) -> None:
        """Tell a paused protocol to go on if no more waits to be written than the low mark."""
        if self._protocol_paused and self.get_write_buffer_size() <= self._low_water:
            self._protocol_paused = False
            self._tell(self._protocol.resume_writing)

    def _tell(self, method: Any) -> None:
        try:
            method()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does
            self._loop.call_exception_handler(
                {"message": f"protocol.{method.__name__}() failed", "exception": error, "transport": self}
            )
