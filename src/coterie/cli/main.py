"""The `coterie` command: finds the subcommand, and turns errors into sentences and exit codes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from ..errors import CoterieError, InvalidArgument, InvalidConfiguration, Outcome
from .options import Group
from .output import fail, usage_error
from .program import ProgramError, program_error

__all__ = ["EXIT_CODES", "main"]

EXIT_CODES = {
    0: "done",
    1: "it was tried and failed, or what was asked for is not there",
    2: "the command, the program or the configuration is wrong; nothing was tried",
    70: "a bug in Coterie",
    130: "interrupted by Ctrl-C",
}

# Imported when used: `coterie call` should not wait for what only `coterie up` needs.
_COMMANDS = {
    "run": ("run", "Run one node of an app."),
    "up": ("up", "Run several nodes of an app on this machine."),
    "call": ("call", "Call a method of a service."),
    "status": ("status", "Show which nodes run, and how they are."),
    "map": ("maps", "Read and write strong maps."),
    "locks": ("locks", "Show who holds and waits for locks, and who waits for whom."),
    "jobs": ("jobs", "Show what is scheduled: when it is due, who runs it, and what became of it."),
    "check-history": ("check_history", "Check a recorded history against a model."),
    "sim": ("sim", "Try a program in many universes of faults."),
    "verify": ("verify", "Hold a real engine under faults against its promises."),
    "lab": ("lab", "Run clusters of real engines on this machine."),
    "config": ("config", "Show each setting and where it came from."),
    "policies": ("policies", "Show under which policy each method is called."),
}


class _Lazy(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f".{_COMMANDS[cmd_name][0]}", __package__)
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES.items()])
        formatter.write("\n" + _EXAMPLES)


_EXAMPLES = """Examples:
  coterie run examples/shop.py
  coterie up examples/shop.py --nodes 3
  coterie call examples/shop.py Shop.restock '{"sku": "tea", "quantity": 10}'
  coterie status examples/shop.py --json
  coterie sim examples/shop.py --universes 200
"""


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="coterie", message="coterie %(version)s")
def _cli() -> None:
    """Run, call and look at distributed programs.

    TARGET is module:attribute or path/to/file.py:attribute; `:app` may be left out.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with one of `EXIT_CODES`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        _cli.main(words, prog_name="coterie", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        fail(usage_error(error), as_json=as_json)
        sys.exit(2)
    except CoterieError as error:
        fail(error, as_json=as_json)
        sys.exit(_exit_code(error))
    except Exception as error:  # noqa: BLE001 - the last one to see it tells whose fault it is
        told = program_error(error, "the program failed") or _file_error(error)
        if told is None:
            if not as_json:
                click.echo("This is a bug in Coterie; please report it with all that follows.", err=True)
            else:
                fail(CoterieError(f"a bug in Coterie: {type(error).__name__}: {error}"), as_json=True)
            sys.excepthook(type(error), error, error.__traceback__)
            sys.exit(70)
        fail(told, as_json=as_json)
        sys.exit(1)


def _file_error(error: Exception) -> CoterieError | None:
    """Return the error of a command that met with a file or folder it cannot use, such as a full disk."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    return CoterieError(
        f"{error.filename} cannot be used: {error.strerror}",
        hint="may this user read and write there, and is there room?",
        outcome=Outcome.NOT_APPLIED,
    )


def _exit_code(error: CoterieError) -> int:
    if isinstance(error, ProgramError):
        return 2 if error.outcome.value == "not_applied" else 1
    refused = isinstance(error, InvalidConfiguration | InvalidArgument)
    return 2 if refused and error.outcome is Outcome.NOT_APPLIED else 1  # A reply may be too large, too.
