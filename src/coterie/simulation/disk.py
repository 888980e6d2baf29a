"""A host's disk: what was written, what of it is safe, and what a loss of power leaves.

The page cache outlives a process, so `kill -9` loses nothing that was written. A loss of power
loses what was not synced: of each file a piece of the unsynced bytes may have reached the disk, cut
anywhere (a torn write); and of the changes to directories, as a journal keeps them, a prefix. A sync
of any file makes all earlier changes to directories safe too, as ext4 does in its default mode.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from .network.stack import os_error
from .tape import Stream

__all__ = ["Disk", "File"]


class File:
    """The contents of a file: as programs see it, and as the disk has it."""

    __slots__ = ("data", "safe")

    def __init__(self) -> None:
        self.data: bytearray = bytearray()
        self.safe: bytes = b""


class Disk:
    """Files by absolute path. Directories exist by what is in them, or by `mkdir`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.files: dict[str, File] = {}
        self.directories: set[str] = {"/", "/tmp"}  # noqa: S108 - the simulated one
        self.capacity: int | None = None
        """How many bytes fit, or None for no limit; a write beyond it fails with ENOSPC."""
        self.failing = False
        """Whether every sync and write fails with EIO."""
        self._safe_files: dict[str, File] = {}
        self._pending: list[Callable[[dict[str, File]], None]] = []

    @property
    def used(self) -> int:
        return sum(len(file.data) for file in self.files.values())

    def _change(self, change: Callable[[dict[str, File]], None]) -> None:
        change(self.files)
        self._pending.append(change)

    def find(self, path: str) -> File:
        """Return the file at `path`; raise `FileNotFoundError`."""
        found = self.files.get(path)
        if found is None:
            raise os_error(errno.ENOENT, f"No such file or directory: {path!r}")
        return found

    def create(self, path: str) -> File:
        """Return a new, empty file at `path`."""
        file = File()

        def change(files: dict[str, File]) -> None:
            files[path] = file

        self._change(change)
        return file

    def write(self, file: File, offset: int, data: bytes) -> int:
        """Write `data` at `offset` and return how much was written, which is less when the disk fills up."""
        if self.failing:
            raise os_error(errno.EIO)
        grows = max(0, offset + len(data) - len(file.data))
        if self.capacity is not None and grows:
            room = self.capacity - self.used
            if room <= 0:
                raise os_error(errno.ENOSPC)
            if grows > room:
                data = data[: len(data) - (grows - room)]
        if offset > len(file.data):
            file.data += bytes(offset - len(file.data))
        file.data[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, file: File, size: int) -> None:
        """Cut or extend `file` to `size` bytes."""
        if size < len(file.data):
            del file.data[size:]
        else:
            file.data += bytes(size - len(file.data))

    def sync(self, file: File | None = None) -> None:
        """Make `file` safe, and all changes to directories so far; without a file only those."""
        if self.failing:
            raise os_error(errno.EIO)
        if file is not None:
            file.safe = bytes(file.data)
        for change in self._pending:
            change(self._safe_files)
        self._pending.clear()

    def sync_all(self) -> None:
        """Make everything safe."""
        for file in dict.fromkeys(self.files.values()):
            self.sync(file)
        self.sync()

    def rename(self, source: str, target: str) -> None:
        """Let the file at `source` be at `target`, in place of what was there."""
        self.find(source)

        def change(files: dict[str, File]) -> None:
            if source in files:
                files[target] = files.pop(source)

        self._change(change)

    def remove(self, path: str) -> None:
        """Remove the file at `path`."""
        self.find(path)

        def change(files: dict[str, File]) -> None:
            files.pop(path, None)

        self._change(change)

    def lose_power(self) -> None:
        """Keep what is safe, and as much of the rest as the tape says; the calm choice is all of it."""
        survive = len(self._pending)
        if survive:
            survive -= self._stream.below(survive + 1)
        for change in self._pending[:survive]:
            change(self._safe_files)
        self._pending.clear()
        self.files = dict(self._safe_files)
        for file in dict.fromkeys(self.files.values()):
            file.data = bytearray(self._torn(file))
            file.safe = bytes(file.data)
        self._safe_files = dict(self.files)

    def _torn(self, file: File) -> bytes:
        """Return what is left of a file: its safe bytes, then unsynced ones up to a cut."""
        data = bytes(file.data)
        if data == file.safe:
            return data
        same = 0
        limit = min(len(data), len(file.safe))
        while same < limit and data[same] == file.safe[same]:
            same += 1
        fresh = len(data) - same
        kept = fresh - self._stream.below(fresh + 1)
        return data[: same + kept] if kept == fresh else data[: same + kept] + file.safe[same + kept :]
