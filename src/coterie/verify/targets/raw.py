"""The plain client libraries, by the name of the engine."""

from __future__ import annotations

import importlib

from ...errors import InvalidArgument, InvalidConfiguration
from ..config import VerifyConfig
from ..session import Open, Opened
from ..systems.system import System

__all__ = ["RAW", "open_raw"]

RAW = {
    "postgres": "postgres",
    "postgresql": "postgres",
    "redis": "redis",
    "valkey": "redis",
    "etcd": "etcd",
    "nats": "nats",
}
"""The module of each, which has `open_target`."""


def open_raw(config: VerifyConfig) -> Open:
    """Return what opens an engine by its plain client. Raises `InvalidArgument` if there is none."""
    name = config.engine.partition(":")[0]
    if name not in RAW:
        raise InvalidArgument(
            f"{name} is not spoken to without its adapter", hint=f"--raw knows {', '.join(RAW)}"
        )
    try:
        module = importlib.import_module(f".{RAW[name]}", __package__)
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(f"--raw needs the module {error.name!r} for {name}") from error

    async def open_one(system: System, client: int, prefix: str) -> Opened:
        opened: Opened = await module.open_target(system.url, prefix, config.isolation)
        return opened

    return open_one
