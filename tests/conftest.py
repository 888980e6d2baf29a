"""Shared settings. A test of asyncio code runs on the loop that a node would use."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping

import pytest

# A shell starts what runs in the background with Ctrl-C ignored, and every program inherits that; what the
# tests start is to answer to it all the same.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    try:
        import uvloop
    except ImportError:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}
