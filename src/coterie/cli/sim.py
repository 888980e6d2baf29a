"""`coterie sim`: try a program in many universes of faults."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidArgument
from .options import Command, as_json, epilog, load, seconds, target
from .sim_report import JsonReport, Report, TextReport

if TYPE_CHECKING:
    from ..simulation import Edits
    from ..simulation.program import Campaign

__all__ = ["command"]

_FOUND, _UNDECIDED = 1, 3


def _classes(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    from ..simulation.faults import CLASSES

    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in CLASSES and name != "none":
            raise click.BadParameter(f"there is no class of faults {name!r}; there are {', '.join(CLASSES)}")
    return tuple(name for name in names if name != "none")


def _weak(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    from ..simulation.standin import Weakness

    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    for name in names:
        if name not in list(Weakness):
            raise click.BadParameter(f"there is no weakness {name!r}; there are {', '.join(Weakness)}")
    return names


@click.command(
    "sim",
    cls=Command,
    epilog=epilog(
        "coterie sim examples/shop.py --universes 1000 --jobs 2",
        "coterie sim examples/shop.py --faults crash,partition --time 5m",
        "coterie sim examples/shop.py --weak stale-reads",
        "coterie sim examples/shop.py --replay 42",
    ),
)
@target
@click.option(
    "--universes",
    type=click.IntRange(1, 10_000_000),
    default=100,
    show_default=True,
    help="How many universes to try, at most: the first that fails is the last.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Universes at a time; by default one a processor.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first universe.")
@click.option(
    "--nodes", type=click.IntRange(1, 100), default=3, show_default=True, help="Nodes in each universe."
)
@click.option(
    "--faults",
    callback=_classes,
    metavar="CLASS,...",
    help="Only these classes of faults (or none); by default all, about half of them in each universe.",
)
@click.option(
    "--time",
    "duration_s",
    callback=seconds,
    default="60s",
    show_default=True,
    help="How long faults happen in a universe, in virtual time.",
)
@click.option(
    "--weak",
    callback=_weak,
    metavar="WEAKNESS,...",
    help="Let the engine break its guarantees: stale-reads, lost-writes, repeated-writes.",
)
@click.option(
    "--shrink",
    type=click.IntRange(0, 100_000),
    default=200,
    show_default=True,
    help="The most universes that are run to make a failure small.",
)
@click.option(
    "--replay", metavar="SEED[:FILE]", help="Run one universe, with the edits in FILE, and show it."
)
@as_json
def command(target: str, **options: Any) -> None:
    """Try a program in many universes of faults, each on simulated hosts and in virtual time.

    TARGET declares its users with @app.workload, and may say what must hold with @app.always and
    @app.eventually. What its maps, transactions and calls promise is checked without more. A universe
    that breaks a promise is made small, shown, and can be repeated anywhere by its seed. Exits with 1
    if one was found, and with 3 if some universe could not be judged.
    """
    from ..simulation.program import Campaign, Trial, importable

    load(target, {})
    app, folder = importable(target)
    trial = Trial(
        app=app,
        nodes=options["nodes"],
        duration_s=options["duration_s"],
        faults=options["faults"],
        weak=options["weak"],
    )
    replay: str | None = options["replay"]
    seeds = range(options["seed"], options["seed"] + options["universes"])
    campaign = Campaign(
        trial,
        path=(folder, *sys.path),
        seeds=seeds,
        jobs=options["jobs"] or os.cpu_count() or 1,
    )
    report = (JsonReport if options["json_"] else TextReport)(target, trial)
    if replay is not None:
        sys.exit(_replay(campaign, report, *_universe(replay)))
    sys.exit(_explore(campaign, report, options["shrink"]))


def _universe(replay: str) -> tuple[int, Edits]:
    from ..simulation import Edits

    seed, _, file = replay.partition(":")
    if not seed.isdecimal():
        raise InvalidArgument(f"{replay!r} names no universe", hint="write SEED, or SEED:FILE")
    try:
        text = Path(file).read_text() if file else "{}"
    except OSError as error:
        raise InvalidArgument(f"the edits in {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file} holds no edits of a tape: it is no text") from error
    return int(seed), Edits.from_json(text)


def _explore(campaign: Campaign, report: Report, budget: int) -> int:
    interrupted = False
    try:
        with report.exploring(campaign.progress), contextlib.closing(campaign.run()) as steps:
            for progress in steps:
                report.step(progress)
    except KeyboardInterrupt:
        interrupted = True
    report.summary(campaign, interrupted=interrupted)
    if campaign.failing is not None:
        with report.shrinking(budget):
            finding = campaign.find(campaign.failing, budget=budget, on_run=report.shrunk)
        report.finding(finding)
        return _FOUND
    if interrupted:
        return 130
    return _UNDECIDED if campaign.progress.undecided else 0


def _replay(campaign: Campaign, report: Report, seed: int, edits: Edits) -> int:
    finding = campaign.replay(seed, edits)
    report.finding(finding)
    if finding.result.verdict == "ok":
        return 0
    return _UNDECIDED if finding.result.verdict == "inconclusive" else _FOUND
