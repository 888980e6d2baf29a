"""Local clusters of real engines, to test against and to hurt: NATS, etcd, PostgreSQL, Valkey, Redis.

from coterie import lab

async with lab.start("nats", members=3, network="proxy") as cluster:
    ...  # use cluster.url
    await cluster.kill(await cluster.leader())
    await cluster.leader()  # another one
    await cluster.partition({0}, {1, 2})
    await cluster.heal()
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from .binaries import Binary, find
from .cluster import Cluster
from .engine import Engine, Member, Options
from .errors import LabError
from .install import install
from .network import Address, NetworkKind
from .tls import Certificates

__all__ = [
    "ENGINES",
    "Address",
    "Binary",
    "Certificates",
    "Cluster",
    "LabError",
    "Member",
    "NetworkKind",
    "Options",
    "find",
    "install",
    "start",
]

_CLASSES = {
    "nats": ("nats", "Nats"),
    "etcd": ("etcd", "Etcd"),
    "postgres": ("postgres", "Postgres"),
    "valkey": ("redis", "Valkey"),
    "redis": ("redis", "Redis"),
}
ENGINES = tuple(_CLASSES)
"""The engines that `start` knows."""


def start(
    engine: str,
    *,
    members: int = 1,
    network: NetworkKind = "direct",
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    tls: bool = False,
    settings: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_s: float = 30.0,
) -> Cluster:
    """Return a cluster of `engine` that starts when it is entered and ends when it is left.

    `members` is 1 or 3. `network` is "direct", "proxy" (cuts and latency without privilege) or
    "namespaces" (root). For `user` ... `settings` see `Options`. Data and logs are in `folder`, which must be
    empty and stays, or in a temporary one that is removed. Each wait lasts `timeout_s` at most.

    Raises:
        LabError: the engine is not known, its program not installed, or an option makes no sense.
    """
    if engine not in _CLASSES:
        raise LabError(f"no such engine: {engine!r}", hint=f"there are {', '.join(ENGINES)}")
    find(engine, tls=tls)
    module, name = _CLASSES[engine]
    kind: type[Engine] = getattr(importlib.import_module(f".{module}", __name__), name)
    options = Options(user=user, password=password, token=token, tls=tls, settings=dict(settings or {}))
    return Cluster(
        kind, members=members, network=network, options=options, folder=folder, timeout_s=timeout_s
    )
