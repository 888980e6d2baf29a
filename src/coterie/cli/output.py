"""What people and machines read: tables and colour on a terminal, plain text else, JSON on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import CoterieError, RemoteError

if TYPE_CHECKING:
    from rich.console import Console

    from ..app import App

__all__ = ["Declared", "console", "declared", "fail", "print_json", "print_line", "print_table"]


def console(*, stderr: bool = False) -> Console:
    """Return a rich console on standard output or standard error."""
    from rich.console import Console

    # Without a terminal nothing is cut off: whoever reads a file or a pipe wants all of it.
    wide = None if (sys.stderr if stderr else sys.stdout).isatty() else 240
    return Console(stderr=stderr, highlight=False, width=wide)


def print_json(value: Any) -> None:
    """Print `value` as one line of JSON, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_line(encoded: bytes) -> None:
    """Print JSON that is encoded already, indented on a terminal, at once."""
    text = encoded.decode()
    if sys.stdout.isatty() and text[:1] in "[{":
        text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console().print(table)


def declared(app: App, error: Exception) -> Declared | None:
    """Return an exception that the program declares as an error of the command line, or None."""
    found = app.errors.find(error)
    if found is None or isinstance(error, CoterieError):
        return None
    told = Declared(f"{found[0]}: {error}" if str(error) else found[0])
    told.name = found[0]
    return told


class Declared(CoterieError):
    """An exception of the program, which it declared with `@app.error`."""

    name = ""


def fail(error: CoterieError, *, as_json: bool) -> None:
    """Print an error: what was wrong, and what to do about it."""
    if as_json:
        body = {
            "code": error.name if isinstance(error, Declared) else error.code,
            "message": error.message,
            "hint": error.hint,
            "outcome": error.outcome.value,
        }
        print_json({"error": body})
        return
    message = error.message
    if isinstance(error, RemoteError) and error.type_name:
        message = f"{error.type_name}: {message}"
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)
    if error.hint:
        click.echo(click.style("try:   ", fg="cyan") + error.hint, err=True)
    if isinstance(error, RemoteError) and error.remote_traceback:
        click.echo(click.style(error.remote_traceback, dim=True), err=True)
    if error.outcome.value == "unknown" and not isinstance(error, Declared | RemoteError):
        click.echo(click.style("It may or may not have had an effect.", dim=True), err=True)
