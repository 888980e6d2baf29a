"""`coterie check-history`: judge a recorded history of anyone's system."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from ..errors import InvalidArgument
from ..history import MODELS, History, Interval, Verdict, check, decode_history, read_history
from ..history.operations import show
from ..history.verdict import inconclusive
from .options import as_json, epilog
from .output import console, print_json, print_table

__all__ = ["command"]

_EXIT = {"ok": 0, "violated": 1, "inconclusive": 3}
_COLOUR = {"ok": "green", "violated": "red", "inconclusive": "yellow"}


def _models(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        rows = [(model.name, model.summary, _options(model.options)) for model in MODELS.values()]
        print_table(("model", "promises", "options and their defaults"), rows)
        ctx.exit()


def _options(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in options.items())


@click.command(
    "check-history",
    epilog=epilog(
        "coterie check-history history.jsonl --model register",
        "coterie check-history history.jsonl --model append -o isolation=serializable",
        "coterie check-history --list-models",
    ),
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--model",
    required=True,
    type=click.Choice(list(MODELS)),
    metavar="MODEL",
    help=f"What the history must keep to: {', '.join(MODELS)}.",
)
@click.option(
    "-o",
    "--option",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the model; the value is JSON or a word. Repeatable.",
)
@click.option(
    "--list-models",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_models,
    help="Show the models.",
)
@as_json
def command(file: str, model: str, pairs: tuple[str, ...], json_: bool) -> None:
    """Check the recorded history in FILE, or - for the standard input, against a MODEL.

    FILE holds JSON lines shaped like Jepsen's operations: process, type (invoke, ok, fail, info),
    f, key, value, time. Exits with 0 if the history is right, 1 if it is violated, 3 if nothing could
    be decided, and 2 if FILE is not a history of the model.
    """
    options = dict(_pair(pair) for pair in pairs)
    history = decode_history(sys.stdin.buffer.read(), source="-") if file == "-" else read_history(file)
    verdict = check(history, model, **options)
    if not verdict.checked:  # A file that holds nothing shows nothing, whatever went wrong with it.
        verdict = inconclusive("the history has no operations").of(model=model, checked=0)
    if json_:
        print_json(verdict.to_json(history))
    else:
        _print(verdict, history, file)
    sys.exit(_EXIT[verdict.status])


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"the option {text!r} has no value", hint="write it as NAME=VALUE")
    try:
        return name.replace("-", "_"), json.loads(value)
    except json.JSONDecodeError:
        return name.replace("-", "_"), value


def _print(verdict: Verdict, history: History, file: str) -> None:
    from rich.text import Text

    what = f"{file}: {verdict.checked:,} operations, model {verdict.model}"
    status = f"{verdict.status} ({verdict.anomaly})" if verdict.anomaly else verdict.status
    console().print(
        Text.assemble((status, f"bold {_COLOUR[verdict.status]}"), " ", (what, "dim")), soft_wrap=True
    )
    if verdict.sentence:
        console().print(Text(verdict.sentence[:1].upper() + verdict.sentence[1:] + "."), soft_wrap=True)
    if verdict.witness:
        columns = ("lines", "process", "f", "key", "argument", "result", "from ms", "to ms")
        print_table(columns, [_row(op, history) for op in verdict.witness])


def _row(op: Interval, history: History) -> tuple[str, ...]:
    unknown = op.outcome == "unknown"
    return (
        f"{history.line(op.start)}-{'?' if unknown else history.line(op.end)}",
        str(op.process),
        op.f,
        "" if op.key is None else show(op.key),
        "" if op.argument is None else show(op.argument),
        op.outcome if op.outcome != "ok" else show(op.result),
        f"{op.start_ns / 1e6:.3f}",
        "?" if op.end_ns is None else f"{op.end_ns / 1e6:.3f}",
    )
