"""Files as programs on a simulated host see them: `open`, descriptors, and the calls of `os` on paths.

Writing goes to the host's `Disk`, never to the real one. A file that is not on the simulated disk is
read from the real one, so that a program finds its templates and certificates; changing such a file
is refused.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import Any

from .disk import Disk, File
from .network.stack import os_error
from .refusal import refuse

__all__ = ["Files", "SimulatedFile", "is_device"]

_FIRST_FD = 1 << 21
_WRITING = os.O_WRONLY | os.O_RDWR


def is_device(path: str) -> bool:
    """Whether `path` is no file that a disk holds."""
    return path.startswith(("/dev/", "/proc/", "/sys/"))


class SimulatedFile(io.RawIOBase):
    """An open file of a simulated disk; `io`'s own buffers and text layers go on top."""

    def __init__(self, disk: Disk, path: str, file: File, fd: int, flags: int) -> None:
        super().__init__()
        self.disk = disk
        self.name = path
        self.file = file
        self._fd = fd
        self._position = 0
        self._append = bool(flags & os.O_APPEND)
        self._readable = not flags & os.O_WRONLY
        self._writable = bool(flags & _WRITING)

    def readable(self) -> bool:
        return self._readable

    def writable(self) -> bool:
        return self._writable

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.file.data[self._position : self._position + len(view)]
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        if self._append:
            self._position = len(self.file.data)
        written = self.disk.write(self.file, self._position, bytes(data))
        self._position += written
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self.file.data)}[whence]
        if base + offset < 0:
            raise os_error(errno.EINVAL)
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        self.disk.truncate(self.file, size)
        return size


class Files:
    """What a process has open, and its calls on paths. One for each process."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._open: dict[int, SimulatedFile] = {}
        self._next_fd = _FIRST_FD

    def has(self, path: Any) -> bool:
        """Whether `path` is on the simulated disk, as a file or a directory."""
        where = _absolute(path)
        return where in self.disk.files or self.is_directory(where)

    def is_directory(self, path: str) -> bool:
        """Whether the simulated disk has a directory at `path`."""
        return path in self.disk.directories or any(name.startswith(path + "/") for name in self.disk.files)

    def get(self, fd: int) -> SimulatedFile:
        """Return what is open as `fd`; raise `OSError`."""
        found = self._open.get(fd)
        if found is None:
            raise os_error(errno.EBADF)
        return found

    def open_raw(self, path: Any, flags: int) -> SimulatedFile:
        """Open a file of the simulated disk as `os.open` would."""
        where = _absolute(path)
        file = self.disk.files.get(where)
        if file is None and self.is_directory(where) and not flags & (_WRITING | os.O_CREAT):
            file = File()  # A directory is opened to be synced, which makes its entries safe.
        elif file is None:
            if self.is_directory(where):
                raise os_error(errno.EISDIR, f"Is a directory: {where!r}")
            if not flags & os.O_CREAT:
                raise os_error(errno.ENOENT, f"No such file or directory: {where!r}")
            file = self.disk.create(where)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise os_error(errno.EEXIST, f"File exists: {where!r}")
        elif flags & os.O_TRUNC:
            self.disk.truncate(file, 0)
        self._next_fd += 1
        raw = SimulatedFile(self.disk, where, file, self._next_fd, flags)
        self._open[self._next_fd] = raw
        return raw

    def open(  # noqa: PLR0917 - the order of the built-in's parameters
        self,
        path: Any,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *_rest: Any,
        **_options: Any,
    ) -> Any:
        """Open a file of the simulated disk as the built-in `open` would."""
        raw = self.open_raw(path, _flags(mode))
        binary = "b" in mode
        if buffering == 0:
            if not binary:
                raise ValueError("can't have unbuffered text I/O")
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering in {-1, 1} else buffering
        buffer: Any
        if "+" in mode:
            buffer = io.BufferedRandom(raw, size)
        elif raw.writable():
            buffer = io.BufferedWriter(raw, size)
        else:
            buffer = io.BufferedReader(raw, size)
        return (
            buffer
            if binary
            else io.TextIOWrapper(buffer, encoding or "utf-8", errors, newline, buffering == 1)
        )

    def close(self, fd: int) -> None:
        self.get(fd).close()
        del self._open[fd]

    def stat(self, path: Any) -> os.stat_result:
        where = _absolute(path)
        file = self.disk.files.get(where)
        if file is None and not self.is_directory(where):
            raise os_error(errno.ENOENT, f"No such file or directory: {where!r}")
        mode = stat.S_IFDIR | 0o755 if file is None else stat.S_IFREG | 0o644
        size = 0 if file is None else len(file.data)
        return os.stat_result((mode, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def names(self, path: Any) -> list[str]:
        """Return what is in a directory."""
        where = _absolute(path).rstrip("/") + "/"
        found = [*self.disk.files, *self.disk.directories]
        inside = (each[len(where) :].partition("/")[0] for each in found if each.startswith(where))
        return sorted({each for each in inside if each})

    def mkdir(self, path: Any) -> None:
        where = _absolute(path)
        if where in self.disk.files or where in self.disk.directories:
            raise os_error(errno.EEXIST, f"File exists: {where!r}")
        self.disk.directories.add(where)

    def rmdir(self, path: Any) -> None:
        where = _absolute(path)
        if self.names(where):
            raise os_error(errno.ENOTEMPTY)
        self.disk.directories.discard(where)

    def rename(self, source: Any, target: Any) -> None:
        self._own(source)
        self.disk.rename(_absolute(source), _absolute(target))

    def remove(self, path: Any) -> None:
        self._own(path)
        self.disk.remove(_absolute(path))

    def _own(self, path: Any) -> None:
        where = _absolute(path)
        if where not in self.disk.files and os.path.lexists(where):
            raise refuse(f"changing the real file {where!r}", "write it within the simulation first")


def _absolute(path: Any) -> str:
    text = os.fspath(path)
    return os.path.abspath(text.decode() if isinstance(text, bytes) else text)  # noqa: PTH100 - of a str


def _flags(mode: str) -> int:
    """Return the flags of `os.open` that the mode of `open` stands for."""
    kinds = {
        "r": 0,
        "w": os.O_CREAT | os.O_TRUNC,
        "a": os.O_CREAT | os.O_APPEND,
        "x": os.O_CREAT | os.O_EXCL,
    }
    kind = [each for each in mode if each in kinds]
    if len(kind) != 1 or set(mode) - set("rwaxbt+"):
        raise ValueError(f"invalid mode: {mode!r}")
    if "+" in mode:
        return kinds[kind[0]] | os.O_RDWR
    return kinds[kind[0]] | (os.O_RDONLY if kind[0] == "r" else os.O_WRONLY)
