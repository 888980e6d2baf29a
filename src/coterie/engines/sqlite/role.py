"""Who writes: one process at a time, by a lock that the kernel takes back when its holder dies."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from ...errors import InvalidConfiguration

__all__ = ["Role"]


class Role:
    """The writer role of one file, and the socket at which its holder is found."""

    def __init__(self, path: Path) -> None:
        self._lock = path.with_name(path.name + "-writer")
        self._socket = path.with_name(path.name + "-writer.sock")
        self._held: int | None = None
        self._folder: int | None = None

    @property
    def held(self) -> bool:
        return self._held is not None

    def take(self) -> bool:
        """Take the role if nobody has it, and return whether this process has it now."""
        if self._held is not None:
            return True
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InvalidConfiguration(
                f"{self._lock} cannot be opened: {error.strerror}", hint="may this user write in its folder?"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise InvalidConfiguration(
                f"{self._lock} cannot be locked: {error.strerror}", hint="the file must be on a local disk"
            ) from error
        self._held = descriptor
        _holders.add(self)
        return True

    def give_up(self) -> None:
        """Let the next one have the role. Idempotent."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def socket_stamp(self) -> tuple[int, int] | None:
        """Return what tells the socket of one holder from that of the next."""
        try:
            found = self._socket.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def socket_path(self) -> str:
        """Return a path of the socket that is short enough to bind and connect to.

        The address of a Unix socket has room for 107 bytes, less than many paths have. A long one is
        reached through this process's own handle of its folder.
        """
        path = str(self._socket.resolve())
        if len(path.encode()) < 100:
            return path
        if self._folder is None:
            self._folder = os.open(self._socket.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{self._socket.name}"

    def close(self) -> None:
        self.give_up()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None


_holders: weakref.WeakSet[Role] = weakref.WeakSet()
# The one thing of this module that all engines of the process share, because a fork is of all of them.


def _let_go() -> None:
    """In a forked child, which has a handle of each lock: it would keep the role after its parent died."""
    for role in _holders:
        role.give_up()


os.register_at_fork(after_in_child=_let_go)
