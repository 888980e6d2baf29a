"""Files as a simulated host sees them: what takes the place of `open` and of the calls of `os`."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from typing import Any

from .ambient import Substitutes, current_environment
from .files import Files, is_device
from .refusal import refuse

__all__ = ["substitute"]


def _files() -> Files | None:
    """Return the files of the process that runs now, or None outside of any host."""
    return getattr(current_environment(), "files", None)


def _open(original: Any) -> Any:
    def virtual(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        files = _files()
        if files is None or isinstance(file, int) or is_device(os.fsdecode(file)):
            return original(file, mode, *args, **options)
        if set(mode) <= set("rbt") and not files.has(file):
            return original(file, mode, *args, **options)
        return files.open(file, mode, *args, **options)

    return virtual


def _os_open(original: Any) -> Any:
    def virtual(path: Any, flags: int, mode: int = 0o777, *, dir_fd: Any = None) -> Any:
        files = _files()
        if files is None or is_device(os.fsdecode(path)):
            return original(path, flags, mode, dir_fd=dir_fd)
        if not files.has(path) and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return original(path, flags, mode, dir_fd=dir_fd)
        return files.open_raw(path, flags).fileno()

    return virtual


def _on_descriptor(act: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a substitute for a call on a descriptor: real ones go on to the real call."""

    def make(original: Any) -> Any:
        def virtual(fd: Any, *args: Any) -> Any:
            files = _files()
            number = fd if isinstance(fd, int) else fd.fileno()
            if files is None or number < 1 << 20:
                return original(fd, *args)
            return act(files, number, *args)

        return virtual

    return make


def _on_path(act: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a substitute for a call that only looks; what the simulated disk has not is real."""

    def make(original: Any) -> Any:
        def virtual(path: Any = ".", *args: Any, **options: Any) -> Any:
            files = _files()
            if files is None or isinstance(path, int) or not files.has(path):
                return original(path, *args, **options)
            return act(files, path)

        return virtual

    return make


def _changing(act: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a substitute for a call that changes something, which happens on the simulated disk only."""

    def make(original: Any) -> Any:
        def virtual(*args: Any, **options: Any) -> Any:
            files = _files()
            if files is None:
                return original(*args, **options)
            return act(files, *args)

        return virtual

    return make


def _read(files: Files, fd: int, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: files.get(fd).readinto(buffer)])


def _sync(files: Files, fd: int) -> None:
    raw = files.get(fd)
    raw.disk.sync(raw.file)


def _refuse(name: str) -> Callable[..., Any]:
    def act(files: Files, *args: Any) -> Any:
        raise refuse(f"os.{name}", "use files and directories only")

    return act


def _ignore(files: Files, *args: Any) -> None:
    """Rights and times are not kept."""


def substitute(substitutes: Substitutes) -> None:
    """Add files to `substitutes`."""
    substitutes.replace(builtins, "open", _open)
    substitutes.replace(os, "open", _os_open)
    descriptors: dict[str, Callable[..., Any]] = {
        "fsync": _sync,
        "fdatasync": _sync,
        "close": Files.close,
        "read": _read,
        "write": lambda files, fd, data: files.get(fd).write(data),
        "lseek": lambda files, fd, offset, whence: files.get(fd).seek(offset, whence),
        "ftruncate": lambda files, fd, size: files.get(fd).truncate(size),
        "fstat": lambda files, fd: files.stat(files.get(fd).name),
    }
    for name, act in descriptors.items():
        substitutes.replace(os, name, _on_descriptor(act))
    looks: dict[str, Callable[..., Any]] = {
        "stat": Files.stat,
        "lstat": Files.stat,
        "listdir": Files.names,
        "access": lambda files, path: True,
    }
    for name, act in looks.items():
        substitutes.replace(os, name, _on_path(act))
    changes: dict[str, Callable[..., Any]] = {
        "rename": Files.rename,
        "replace": Files.rename,
        "remove": Files.remove,
        "unlink": Files.remove,
        "mkdir": lambda files, path, *mode: files.mkdir(path),
        "rmdir": Files.rmdir,
        "truncate": lambda files, path, size: files.disk.truncate(files.disk.find(os.fspath(path)), size),
        "chmod": _ignore,
        "utime": _ignore,
        "sync": lambda files: files.disk.sync_all(),
    }
    for name, act in changes.items():
        substitutes.replace(os, name, _changing(act))
    for name in ("link", "symlink", "chdir", "mkfifo", "chroot"):
        substitutes.replace(os, name, _changing(_refuse(name)))
