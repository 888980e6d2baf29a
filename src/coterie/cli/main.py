"""The `coterie` command: finds the subcommand, and turns errors into sentences and exit codes.

Exit codes: 0 done, 1 it was tried and failed, 2 the command or the configuration was wrong.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from ..errors import CoterieError, InvalidArgument, InvalidConfiguration, NotFound
from .output import fail

__all__ = ["main"]

# Imported when used: `coterie call` should not wait for what only `coterie up` needs.
_COMMANDS = {
    "run": ("run", "Run one node of an app."),
    "up": ("up", "Run several nodes of an app on this machine."),
    "call": ("call", "Call a method of a service."),
    "status": ("status", "Show which nodes run, and how they are."),
    "map": ("maps", "Read and write strong maps."),
    "config": ("config", "Show each setting and where it came from."),
}


class _Lazy(click.Group):
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


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  coterie run examples/shop.py
  coterie up examples/shop.py --nodes 3
  coterie call examples/shop.py Shop.restock '{"sku": "tea", "quantity": 10}'
  coterie status examples/shop.py --json""",
)
@click.version_option(package_name="coterie", message="coterie %(version)s")
def _cli() -> None:
    """Run, call and look at distributed programs.

    TARGET is module:attribute or path/to/file.py:attribute; `:app` may be left out.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        _cli.main(words, prog_name="coterie", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        if as_json:
            fail(InvalidArgument(error.format_message()), as_json=True)
        else:
            error.show()
        sys.exit(2)
    except CoterieError as error:
        fail(error, as_json=as_json)
        usage = isinstance(error, InvalidConfiguration | InvalidArgument | NotFound)
        sys.exit(2 if usage else 1)
    except BrokenPipeError:
        # The reader of our output has left (`coterie map scan ... | head`): not an error.
        sys.stderr.close()
        sys.exit(0)
