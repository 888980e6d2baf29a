"""Time and randomness as a simulated host sees them."""

from __future__ import annotations

import random
import ssl
import time
import uuid
from collections.abc import Callable
from typing import Any

from .ambient import Substitutes, current_environment
from .environment import Environment
from .refusal import refuse

__all__ = ["substitute"]

Answer = Callable[[Environment], Any]


def _clock(answer: Answer) -> Callable[[Any], Any]:
    """Make a substitute for a function without parameters."""

    def make(original: Any) -> Any:
        def virtual() -> Any:
            machine = current_environment()
            return original() if machine is None else answer(machine)

        virtual.__name__ = virtual.__qualname__ = original.__name__
        return virtual

    return make


def _of_id(original: Any) -> Any:
    """Make a substitute for `clock_gettime` and its kind."""
    scale = 1_000_000_000 if original.__name__.endswith("_ns") else 1
    number: type[int] | type[float] = int if scale > 1 else float

    def virtual(clk_id: int) -> Any:
        machine = current_environment()
        if machine is None:
            return original(clk_id)
        wall = clk_id in {time.CLOCK_REALTIME, getattr(time, "CLOCK_TAI", -1)}
        return number((machine.clock.wall() if wall else machine.clock.monotonic()) * scale)

    return virtual


def _broken_down(original: Any) -> Any:
    """Make a substitute for `localtime`, `gmtime` and `ctime`, whose default is now."""

    def virtual(secs: float | None = None) -> Any:
        machine = current_environment()
        return original(machine.clock.wall() if secs is None and machine is not None else secs)

    return virtual


def _formatted(original: Any) -> Any:
    """Make a substitute for `strftime` and `asctime`, whose last argument is a time or else now."""
    before = 1 if original.__name__ == "strftime" else 0

    def virtual(*args: Any) -> Any:
        machine = current_environment()
        if machine is not None and len(args) == before:
            args = (*args, time.localtime(machine.clock.wall()))
        return original(*args)

    return virtual


def _sleep(original: Any) -> Any:
    def virtual(seconds: float) -> None:
        if current_environment() is not None:
            raise refuse("time.sleep", "it would stop every host; await asyncio.sleep")
        original(seconds)

    return virtual


def _of_random(name: str) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def virtual(*args: Any, **kwargs: Any) -> Any:
            machine = current_environment()
            return (original if machine is None else getattr(machine.random, name))(*args, **kwargs)

        virtual.__name__ = virtual.__qualname__ = name
        return virtual

    return make


def _seed(original: Any) -> Any:
    """Make a substitute for `Random.seed`: without a seed it takes one from the machine's entropy."""

    def seed(self: Any, a: Any = None, version: int = 2) -> None:
        machine = current_environment()
        if a is None and machine is not None:
            a = machine.entropy(32)
        original(self, a, version)

    return seed


def _node(original: Any) -> Any:
    def virtual() -> int:
        machine = current_environment()
        return int(original()) if machine is None else 0x02_00_00_00_00_00 + machine.pid

    return virtual


def _unsafe_time(original: Any) -> Any:
    """Make a substitute for libuuid's `uuid1`, which has a clock of its own."""

    def virtual() -> Any:
        machine = current_environment()
        if machine is None:
            return original()
        ticks = int(machine.clock.wall() * 1e7) + 0x01B2_1DD2_1381_4000
        sequence = machine.random.getrandbits(14)
        fields = (ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF)
        made = uuid.UUID(fields=(*fields, sequence >> 8, sequence & 0xFF, uuid.getnode()), version=1)
        return made.bytes, None

    return virtual


def substitute(substitutes: Substitutes) -> None:
    """Add time and randomness to `substitutes`."""
    clocks: dict[str, Answer] = {
        "time": lambda machine: machine.clock.wall(),
        "time_ns": lambda machine: int(machine.clock.wall() * 1e9),
        "monotonic": lambda machine: machine.clock.monotonic(),
        "perf_counter": lambda machine: machine.clock.monotonic(),
        "process_time": lambda machine: machine.clock.monotonic(),
        "thread_time": lambda machine: machine.clock.monotonic(),
        "monotonic_ns": lambda machine: int(machine.clock.monotonic() * 1e9),
        "perf_counter_ns": lambda machine: int(machine.clock.monotonic() * 1e9),
        "process_time_ns": lambda machine: int(machine.clock.monotonic() * 1e9),
        "thread_time_ns": lambda machine: int(machine.clock.monotonic() * 1e9),
    }
    for name, answer in clocks.items():
        substitutes.replace(time, name, _clock(answer))
    for name in ("clock_gettime", "clock_gettime_ns"):
        substitutes.replace(time, name, _of_id)
    for name in ("localtime", "gmtime", "ctime"):
        substitutes.replace(time, name, _broken_down)
    for name in ("strftime", "asctime"):
        substitutes.replace(time, name, _formatted)
    substitutes.replace(time, "sleep", _sleep)
    for name in random.__all__:
        if callable(getattr(random, name)) and name[0].islower():
            substitutes.replace(random, name, _of_random(name))
    substitutes.replace_attribute(random.Random, "seed", _seed)
    substitutes.replace(uuid, "getnode", _node)
    substitutes.replace(uuid, "_generate_time_safe", _unsafe_time)
    substitutes.replace(ssl, "RAND_bytes", _bytes)


def _bytes(original: Any) -> Any:
    """Make a substitute for functions that return so many random bytes."""

    def virtual(size: int, *flags: int) -> bytes:
        machine = current_environment()
        return bytes(original(size, *flags)) if machine is None else machine.entropy(size)

    return virtual
