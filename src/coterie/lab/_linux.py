"""What Python 3.11 has no function for: namespaces, and a process that dies with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["die_with_parent", "enter", "entered", "new_network", "reap_orphans", "shed_root"]

_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_UNPRIVILEGED_ID = 1000

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends, however it ends."""
    if sys.platform == "linux":
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before the kernel knew of the wish
        os._exit(127)


def reap_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, so that none escapes."""
    if sys.platform == "linux":
        _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def enter(namespace: int) -> None:
    """Move this thread into the network `namespace`, a file descriptor."""
    _call("setns", namespace, _CLONE_NEWNET)


def new_network() -> int:
    """Return a descriptor of a new network namespace; it ends with its last user, so nothing can leak."""
    with _back_home():
        _call("unshare", _CLONE_NEWNET)
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def entered(namespace: int | None) -> Iterator[None]:
    """Run the body in `namespace`: a socket stays in the one that it was made in."""
    if namespace is None:
        yield
        return
    with _back_home():
        enter(namespace)
        yield


@contextmanager
def _back_home() -> Iterator[None]:
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        enter(home)
        os.close(home)


def shed_root() -> None:
    """Be an ordinary user, for programs that refuse to run as root, and still own root's files.

    A user namespace does that with no change of any file's owner: inside, the process is nobody special.
    One for System V's shared memory goes with it, which else would outlive a crash.
    """
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWIPC)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_UNPRIVILEGED_ID} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{_UNPRIVILEGED_ID} {group} 1")
