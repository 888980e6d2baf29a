"""What people and machines read: tables and colour on a terminal, plain text else, JSON on request."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import CoterieError, InvalidArgument, RemoteError
from .program import ProgramError

if TYPE_CHECKING:
    from rich.console import Console

    from ..app import App

__all__ = [
    "Declared",
    "console",
    "declared",
    "echo",
    "error_facts",
    "fail",
    "forget_reader",
    "json_line",
    "on_terminal",
    "print_json",
    "print_line",
    "print_table",
    "usage_error",
]

_FOLDABLE = 4
"""Tables of more columns are unreadable when their cells are folded."""


def on_terminal() -> bool:
    """Return whether a person looks, and wants more than plain text (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def console() -> Console:
    """Return a rich console on standard output."""
    from rich.console import Console

    return Console(highlight=False, force_terminal=on_terminal())


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, at once: with its styles on a terminal, unless NO_COLOR (no-color.org) is set."""
    click.echo(text, err=err, color=False if os.environ.get("NO_COLOR") else None)


def json_line(value: Any) -> str:
    """Return `value` as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)


def forget_reader() -> None:
    """Print to nowhere from now on: whoever read standard output is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """Print `value` as one line of JSON, at once."""
    _print(json_line(value))


def print_line(encoded: bytes) -> None:
    """Print JSON that is encoded already, indented on a terminal, at once."""
    text = encoded.decode()
    if sys.stdout.isatty() and text[:1] in "[{":
        text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    _print(text)


def _print(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`coterie map scan ... | head`), so the command is done.
        forget_reader()
        raise click.exceptions.Exit(0) from None


def print_table(columns: Sequence[str], rows: Iterable[Sequence[tuple[str, str] | str]]) -> None:
    """Print a table. A cell is its text, or the text and its style.

    Without a terminal nothing is cut off or wrapped: whoever reads a file or a pipe wants all of it.
    A table of many columns that a terminal is too narrow for is printed as a block of lines a row.
    """
    cells = [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in rows]
    if not on_terminal():
        _print_plain([list(columns), *_texts(cells)])
        return
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    screen = console()
    widths = [max(map(cell_len, column)) for column in zip(columns, *_texts(cells), strict=True)]
    if len(columns) > _FOLDABLE and sum(widths) + 3 * len(widths) > screen.width:
        indent = max(map(len, columns))
        for row in cells:
            for name, (text, style) in zip(columns, row, strict=True):
                if text:
                    screen.print(Text.assemble((f"{name:{indent}}  ", "dim"), (text, style)))
            screen.print()
        return
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in cells:
        # As Text, since in a plain string rich would take [brackets] for its markup.
        table.add_row(*(Text(text, style=style, overflow="fold") for text, style in row))
    screen.print(table)


def _texts(cells: list[list[tuple[str, str]]]) -> list[list[str]]:
    return [[text for text, _ in row] for row in cells]


def _print_plain(lines: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        _print("  ".join(padded).rstrip())


def declared(app: App, error: Exception) -> Declared | None:
    """Return an exception that the program declares as an error of the command line, or None."""
    found = app.errors.find(error)
    if found is None:
        return None
    if isinstance(error, CoterieError):
        told = Declared(error.message, hint=error.hint, outcome=error.outcome)
    else:
        told = Declared(str(error))
    told.name = found[0]
    return told


class Declared(CoterieError):
    """An exception of the program, which it declared with `@app.error`."""

    name = ""


def usage_error(error: click.ClickException) -> InvalidArgument:
    """Return what click finds wrong with a command as an error that looks like all others."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "coterie"
    message = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.MissingParameter) and error.param is not None and error.param.name == "target":
        return InvalidArgument(
            "which program? TARGET is missing",
            hint=f"name it as module:attribute or path/to/file.py, as in: {path} shop.py",
        )
    return InvalidArgument(f"{message[:1].lower()}{message[1:]}", hint=f"{path} --help")


def fail(error: CoterieError, *, as_json: bool) -> None:
    """Print an error: what was wrong, and what to do about it.

    For machines it is an object with `error` on standard output, where they read; for people it goes
    to standard error.
    """
    if as_json:
        print_json({"error": error_facts(error)})
        return
    message = error.message
    if isinstance(error, RemoteError) and error.type_name:
        message = f"{error.type_name}: {message}"
    elif isinstance(error, Declared):
        message = f"{error.name}: {message}" if message else error.name
    echo(click.style("error: ", fg="red", bold=True) + message, err=True)
    for note in getattr(error, "__notes__", ()):
        echo(f"       {note}", err=True)
    if error.hint:
        echo(click.style("try:   ", fg="cyan") + error.hint, err=True)
    trace = _trace(error)
    if trace:
        echo(click.style(trace, dim=True), err=True)
    silent = (Declared, RemoteError, ProgramError)
    if error.outcome.value == "unknown" and not isinstance(error, silent):
        echo(click.style("It may or may not have had an effect.", dim=True), err=True)


def error_facts(error: CoterieError) -> dict[str, Any]:
    """Return an error as machines read it."""
    facts: dict[str, Any] = {
        "code": error.name if isinstance(error, Declared) else error.code,
        "message": error.message,
        "hint": error.hint,
        "outcome": error.outcome.value,
    }
    if isinstance(error, RemoteError) and error.type_name:
        facts["type"] = error.type_name
    if notes := getattr(error, "__notes__", None):
        facts["notes"] = list(notes)
    if trace := _trace(error):
        facts["traceback"] = trace
    return facts


def _trace(error: CoterieError) -> str:
    if isinstance(error, RemoteError):
        return error.remote_traceback.rstrip()
    return error.trace if isinstance(error, ProgramError) else ""
