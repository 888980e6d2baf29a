"""What SQLite does to its files, recorded call by call, and what the simulator's disk leaves of it.

The calls are seen where SQLite itself makes them: in the methods of its files (sqlite.org/vfs.html). They
reach the real files as well; a loss of power is played afterwards, at any moment of the record, on a `Disk`.
"""

from __future__ import annotations

import ctypes
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coterie.simulation.disk import Disk
from coterie.simulation.tape import Tape

_KEPT = 0x100 | 0x800 | 0x80000
"""The main database, its journal, its write-ahead log: what is meant to outlive anything."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call: create, write, truncate, sync or delete; or `note`, for what the test has to say."""

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("delete", ctypes.c_void_p),
    )


class _Methods(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_int),
        ("close", ctypes.c_void_p),
        ("read", ctypes.c_void_p),
        ("write", ctypes.c_void_p),
        ("truncate", ctypes.c_void_p),
        ("sync", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 13),
    )


class _File(ctypes.Structure):
    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


_C = ctypes.CFUNCTYPE
# The name goes through as an address: SQLite keeps that for as long as the file is open.
_OPEN = _C(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_File), ctypes.c_int, ctypes.c_void_p
)
_DELETE = _C(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
_WRITE = _C(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = _C(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_SYNC = _C(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


def _library() -> ctypes.CDLL:
    """Return the SQLite that the module `sqlite3` runs on."""
    sqlite3.connect(":memory:").close()
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[2]
        if "libsqlite3" in path:
            return ctypes.CDLL(f"/{path}")
    import _sqlite3

    return ctypes.CDLL(_sqlite3.__file__)  # It may be built into the module.


class Record:
    """The steps so far, from all files of SQLite that are opened while `recording`."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._names: dict[int, str] = {}
        self._alive: list[Any] = []
        """What SQLite points to, and Python must not free."""
        self._patches: dict[int, _Methods] = {}
        """By address: databases and logs have methods of their own."""

    def note(self, text: str) -> None:
        """Note what has happened up to here."""
        self.steps.append(Step("note", text))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """See all files that are opened in the block, as long as they are open."""
        library = _library()
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        vfs = library.sqlite3_vfs_find(None).contents
        real_open, real_delete = vfs.open, vfs.delete
        ours = (_OPEN(self._opener(_OPEN(real_open))), _DELETE(self._deleter(_DELETE(real_delete))))
        self._alive += ours
        vfs.open, vfs.delete = (ctypes.cast(each, ctypes.c_void_p).value for each in ours)
        try:
            yield
        finally:
            vfs.open, vfs.delete = real_open, real_delete

    def _opener(self, real: Callable[..., int]) -> Callable[..., int]:
        def open_(vfs: int, name: int | None, file: Any, flags: int, out: int) -> int:
            code = real(vfs, name, file, flags, out)
            if code == 0 and name is not None and flags & _KEPT:
                address = ctypes.addressof(file.contents)
                self._names[address] = Path(ctypes.string_at(name).decode()).name
                self.steps.append(Step("open", self._names[address]))
                real_methods = file.contents.methods.contents
                place = ctypes.addressof(real_methods)
                if place not in self._patches:
                    self._patches[place] = self._patched(real_methods)
                file.contents.methods = ctypes.pointer(self._patches[place])
            return code

        return open_

    def _deleter(self, real: Callable[..., int]) -> Callable[..., int]:
        def delete(vfs: int, name: bytes, sync: int) -> int:
            code = real(vfs, name, sync)
            if code == 0:
                self.steps.append(Step("delete", Path(name.decode()).name))
            return code

        return delete

    def _patched(self, real: _Methods) -> _Methods:
        methods = _Methods.from_buffer_copy(real)
        write, truncate, sync = _WRITE(real.write), _TRUNCATE(real.truncate), _SYNC(real.sync)

        def on_write(file: int, data: int, size: int, offset: int) -> int:
            code = write(file, data, size, offset)
            if code == 0:
                self.steps.append(Step("write", self._names[file], offset, ctypes.string_at(data, size)))
            return code

        def on_truncate(file: int, size: int) -> int:
            code = truncate(file, size)
            if code == 0:
                self.steps.append(Step("truncate", self._names[file], size))
            return code

        def on_sync(file: int, flags: int) -> int:
            code = sync(file, flags)
            if code == 0:
                self.steps.append(Step("sync", self._names[file]))
            return code

        for name, kind, call in (
            ("write", _WRITE, on_write),
            ("truncate", _TRUNCATE, on_truncate),
            ("sync", _SYNC, on_sync),
        ):
            ours = kind(call)
            self._alive.append(ours)
            setattr(methods, name, ctypes.cast(ours, ctypes.c_void_p).value)
        return methods


def after_power_loss(steps: Sequence[Step], folder: Path, seed: int) -> None:
    """Write into `folder` what is left of the files if the power failed after the last of `steps`."""
    disk = Disk(Tape(seed).stream("power"))
    for step in steps:
        if step.kind == "note":
            continue
        if step.kind == "delete":
            if step.name in disk.files:
                disk.remove(step.name)
            continue
        file = disk.files.get(step.name) or disk.create(step.name)
        if step.kind == "write":
            disk.write(file, step.offset, step.data)
        elif step.kind == "truncate":
            disk.truncate(file, step.offset)
        elif step.kind == "sync":
            disk.sync(file)
    disk.lose_power()
    for name, file in disk.files.items():
        (folder / name).write_bytes(file.data)
