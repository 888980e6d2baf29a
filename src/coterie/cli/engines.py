"""The engines that `coterie up` starts for its nodes, when an option names one instead of a URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from .. import lab
from ..errors import InvalidArgument
from .supervisor import Restarts

__all__ = ["find_clusters", "keep", "running"]

_ELECTS = ("nats", "etcd")
"""Three members by default, since two of them go on when one is gone."""
_ALONE = ("redis", "valkey")

_WIRE = "nats"
"""The one that carries calls."""

Tell = Callable[..., None]
"""`tell(event, text, **facts)`: something happened to a member."""


def find_clusters(options: Mapping[str, Any], members: int | None) -> dict[str, lab.Cluster]:
    """Return, for each of engine, store, log and wire that names one, the cluster to be started.

    Options that name the same engine share it. Raises `LabError` when its program is not installed, and
    `InvalidArgument` for a name that is none and for `members` that make no sense.
    """
    names = {
        option: value
        for option in ("engine", "store", "log", "wire")
        if (value := options.get(option)) and ":" not in value
    }
    clusters: dict[str, lab.Cluster] = {}
    for option, name in names.items():
        if option == "wire" and name != _WIRE:
            raise InvalidArgument(
                f"--wire is the URL of NATS servers, or {_WIRE} to start them here, not {name!r}",
                hint="leave --wire out where nodes reach each other: that is faster, with any engine",
            )
        if name not in lab.ENGINES:
            raise InvalidArgument(
                f"--{option} is a URL or the name of an engine to start, not {name!r}",
                hint=f"there are {', '.join(lab.ENGINES)}",
            )
        if name in _ALONE and members == 3:
            raise InvalidArgument(
                f"{name} runs with one member: no replica takes over without losing acknowledged writes"
            )
        if name not in clusters:
            clusters[name] = lab.start(_program(name), members=members or (3 if name in _ELECTS else 1))
    if members is not None and not names:
        raise InvalidArgument(
            "--members is of an engine that is started here",
            hint=f"name it, as in --engine etcd; there are {', '.join(lab.ENGINES)}",
        )
    return {option: clusters[name] for option, name in names.items()}


def _program(name: str) -> str:
    """Return which program stands for `name`: Valkey does for Redis where only that is installed."""
    if name == "redis":
        try:
            lab.find("redis")
        except lab.LabError:
            lab.find("valkey")
            return "valkey"
    return name


@asynccontextmanager
async def running(clusters: Mapping[str, lab.Cluster]) -> AsyncIterator[dict[str, str]]:
    """Start the clusters, and give the URL for each option. They end with the block."""
    async with AsyncExitStack() as stack:
        for cluster in dict.fromkeys(clusters.values()):
            await stack.enter_async_context(cluster)
        yield {
            option: cluster.url if option == "wire" else cluster.engine_url
            for option, cluster in clusters.items()
        }


async def keep(cluster: lab.Cluster, *, restart: bool, tell: Tell) -> None:
    """Tell which members there are and which die; start those again. Raises `LabError` if all is lost."""
    binary = cluster.binary
    tell(
        "engine",
        f"{binary.engine} {binary.version} at {cluster.url}: "
        + ", ".join(f"{member.name} (pid {member.pid})" for member in cluster.members),
        engine=binary.engine,
        version=binary.version,
        url=cluster.url,
        members=[{"name": each.name, "pid": each.pid, "log": str(each.log)} for each in cluster.members],
    )
    async with asyncio.TaskGroup() as group:
        for member in cluster.members:
            group.create_task(_keep_member(cluster, member, restart=restart, tell=tell))


async def _keep_member(cluster: lab.Cluster, member: lab.Member, *, restart: bool, tell: Tell) -> None:
    restarts, loop = Restarts(), asyncio.get_running_loop()
    while True:
        pid = member.pid
        code = await cluster.wait_exit(member.index)
        facts = {"member": member.name, "pid": pid}
        tell("member_died", f"{member.name} (pid {pid}) ended with {code}", **facts, code=code)
        wait_s = restarts.died(loop.time(), code=code, was_ready=True)
        if wait_s is None or not restart:
            tell("member_given_up", f"{member.name} is given up; its log: {member.log}", **facts)
            return
        await asyncio.sleep(wait_s)
        # Whether it serves again is seen by the nodes: without the others it cannot.
        await cluster.restart(member.index, ready=False)
        facts["pid"] = member.pid
        tell("member_restarted", f"{member.name} (pid {member.pid}) was started again", **facts)
