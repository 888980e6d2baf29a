"""Signals for a process and all that it started: PostgreSQL's children are groups of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["all_stopped", "descendants", "destroy", "destroy_children", "owner_of", "send"]

_PROC = Path("/proc")


def _parents() -> Iterator[tuple[int, int]]:
    if not (_PROC / "self").exists():  # macOS
        command = ["/bin/ps", "-axo", "pid=,ppid="]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - constant
        for line in listed.stdout.splitlines():
            child, parent = line.split()
            yield int(child), int(parent)
        return
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with suppress(OSError):
                # The name of the program, in brackets, may hold anything.
                state = (_PROC / entry.name / "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), int(state[1])


def descendants(root: int) -> list[int]:
    """Return the process ids of `root` and of all that descend from it."""
    children: dict[int, list[int]] = defaultdict(list)
    for child, parent in _parents():
        children[parent].append(child)
    found = [root]
    for process in found:  # grows while it is walked
        found.extend(children[process])
    return found


def send(root: int, number: signal.Signals) -> None:
    """Send a signal to `root` and its descendants, and to those that were forked meanwhile."""
    seen: set[int] = set()
    while fresh := set(descendants(root)) - seen:
        for process in fresh:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        seen |= fresh


def all_stopped(root: int) -> bool:
    """Return whether the kernel has stopped `root` and its descendants: a signal takes its time."""
    if not _PROC.joinpath("self").exists():
        return True
    for process in descendants(root):
        with suppress(OSError):
            if (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[0] not in "TtZ":
                return False
    return True


def destroy(root: int) -> None:
    """End `root` and its descendants at one moment, as a crash does: none sees another die."""
    send(root, signal.SIGSTOP)
    send(root, signal.SIGKILL)


def owner_of(local: tuple[str, int], roots: dict[str, int]) -> str | None:
    """Return which of the named processes has the TCP socket bound to `local`, or None.

    It serves a proxy on one machine, where all members share one address. Linux only.
    """
    host, port = local
    octets = bytes(int(part) for part in host.split("."))
    wanted = f"{octets[::-1].hex().upper()}:{port:04X}"
    inode = None
    with suppress(OSError), (_PROC / "net" / "tcp").open() as table:
        inode = next((row[9] for row in map(str.split, table) if row[1] == wanted), None)
    if inode in {None, "0"}:
        return None
    target = f"socket:[{inode}]"
    for name, root in roots.items():
        for process in descendants(root):
            with suppress(OSError):
                for entry in os.scandir(_PROC / str(process) / "fd"):
                    with suppress(OSError):
                        if str(Path(entry.path).readlink()) == target:
                            return name
    return None


def destroy_children(parent: int) -> None:
    """End all that descends from `parent`, but not itself."""
    for process in descendants(parent)[1:]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
