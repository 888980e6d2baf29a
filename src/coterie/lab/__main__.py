"""`python -m coterie.lab install [--tls] [ENGINE...]` and `python -m coterie.lab list`."""

from __future__ import annotations

import sys

from .binaries import RECIPES, find
from .errors import LabError
from .install import install


def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    commands = [argument for argument in arguments if argument != "--tls"]
    tls = len(commands) != len(arguments)
    if commands[:1] not in (["install"], ["list"]):
        print(f"usage: python -m coterie.lab install|list [--tls] [{' '.join(RECIPES)}]", file=sys.stderr)
        return 2
    failed = 0
    for engine in commands[1:] or RECIPES:
        try:
            if commands[0] == "install":
                binary = install(engine, tls=tls, report=lambda line: print("+", line, flush=True))
            else:
                binary = find(engine, tls=tls)
        except LabError as error:
            print(f"{engine}: {error}", file=sys.stderr)
            failed = 1
        else:
            print(f"{engine} {binary.version} ({binary.origin}): {binary.path}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
