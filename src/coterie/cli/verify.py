"""`coterie verify`: hold a real engine under faults against its promises."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidArgument
from .options import Command, as_json, epilog, run_async, seconds
from .verify_report import JsonReport, TextReport, VerifyReport

if TYPE_CHECKING:
    from ..verify import Report, Run, VerifyConfig

__all__ = ["command"]

_FOLDER = Path(".coterie") / "verify"
_WORKLOADS = "register,set,log,lock,bank,append"


def _names(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    return () if names == ("none",) else names


def _settings(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"it is NAME=VALUE, not {pair!r}")
        found[name] = value
    return found


@click.command(
    "verify",
    cls=Command,
    epilog=epilog(
        "coterie verify sqlite --time 20s",
        "coterie verify etcd --faults kill,pause,partition --report etcd.html",
        "coterie verify redis --faults failover --workload set      # loses what it had acknowledged",
        "coterie verify postgres --raw --isolation 'repeatable read' --workload append --faults none",
        "coterie verify nats://127.0.0.1:4222 --workload log",
    ),
)
@click.argument("engine", metavar="ENGINE")
@click.option(
    "--nodes", "members", type=click.Choice(["1", "3"]), default="3", show_default=True, help="Members."
)
@click.option(
    "--workload",
    "workloads",
    callback=_names,
    default=_WORKLOADS,
    show_default=True,
    metavar="NAME,...",
    help="What clients do, all at once.",
)
@click.option(
    "--faults",
    callback=_names,
    default="kill,pause,partition,restart",
    show_default=True,
    metavar="CLASS,...",
    help="What is done to members, or none; also failover, where replicas are promoted by hand.",
)
@click.option(
    "--time",
    "time_s",
    callback=seconds,
    default="60s",
    show_default=True,
    help="How long; starting, healing and judging come on top.",
)
@click.option("--clients", type=int, default=8, show_default=True, help="Clients of each workload.")
@click.option(
    "--rate",
    "rate_per_s",
    type=float,
    default=10.0,
    show_default=True,
    help="What a client begins in a second, at most.",
)
@click.option("--seed", type=click.IntRange(0), help="Of the plan of faults and work; by default a new one.")
@click.option("--raw", is_flag=True, help="Through the engine's plain client library, not through the port.")
@click.option(
    "--isolation",
    type=click.Choice(["read committed", "repeatable read", "serializable"]),
    default="serializable",
    show_default=True,
    help="Of raw transactions (postgres).",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_settings,
    metavar="NAME=VALUE",
    help="A setting of the engine's own.",
)
@click.option("--strict", is_flag=True, help="Fail for what is violated though it is not promised, too.")
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a page with timelines and witnesses.",
)
@click.option(
    "--history",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the history is kept; of several workloads, with the name of each before the suffix.",
)
@as_json
def command(
    members: str,
    seed: int | None,
    strict: bool,
    page: Path | None,
    history: Path | None,
    json_: bool,
    **options: Any,
) -> None:
    """Put ENGINE under load and faults, and hold what clients saw against what is promised.

    ENGINE is sqlite, etcd, nats, postgres, redis or valkey, of which a cluster is started that ends with
    the run, or the URL of one that runs, to which no faults are done. Exits with 1 if a promise was
    broken, and with 3 if one could not be judged. What is not promised and was violated all the same is
    shown, and fails only with --strict.
    """
    from ..verify import VerifyConfig

    chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    config = VerifyConfig(members=int(members), seed=chosen, **options)
    for path in (page, history):
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidArgument(f"there is no folder {path.absolute().parent}", hint="make it first")
    # What the engines log of lost connections is what this is about, and the report tells of it.
    logging.getLogger("coterie").addHandler(logging.NullHandler())
    teller: VerifyReport = (JsonReport if json_ else TextReport)(config)
    report = run_async(_run(config, teller, _kept(config, history)))
    teller.tell(report, strict=strict)
    if page is not None:
        from ..verify.page import render

        page.write_text(render(report, command=teller.command))
        teller.wrote(page)
    sys.exit(report.exit_code(strict=strict))


def _kept(config: VerifyConfig, history: Path | None) -> Callable[[str], Path]:
    """Return what says where the history of each workload is kept."""
    engine = re.sub(r"[^A-Za-z0-9]+", "-", config.engine.rpartition("@")[2]).strip("-")[:60]
    folder = _FOLDER / f"{engine}-{'raw-' if config.raw else ''}{config.seed}"

    def path(workload: str) -> Path:
        if history is None:
            return folder / f"{workload}.jsonl"
        if len(config.workloads) == 1:
            return history
        return history.with_stem(f"{history.stem}-{workload}")

    return path


async def _run(config: VerifyConfig, teller: VerifyReport, kept: Callable[[str], Path]) -> Report:
    """Run; the first Ctrl-C ends it with what there is to judge, the second at once."""
    from ..verify import verify

    runs: list[Run] = []
    running = asyncio.create_task(verify(config, histories=kept, watch=runs.append))

    def interrupt() -> None:
        if runs and not runs[0].interrupted:
            runs[0].interrupt()
        else:
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    with teller.running():
        while not running.done():
            await asyncio.wait([running], timeout=0.1)
            teller.step(runs[0] if runs else None)
    try:
        return running.result()
    except asyncio.CancelledError:
        raise click.Abort from None
    finally:
        with contextlib.suppress(NotImplementedError):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
