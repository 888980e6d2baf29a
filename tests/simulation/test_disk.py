"""Files of a simulated host: what programs see, what a crash leaves, and that the real disk is left alone."""

# ruff: noqa: PTH123, PTH208, PTH211, SIM115 - every way to ask for a file is tried, the old ones as well

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.simulation import Refused, World, run
from coterie.simulation.disk import Disk
from coterie.simulation.tape import Tape


def on_host(body: Any, *, seed: int = 1, then: Any = None) -> Any:
    """Run `body(world)` on the host `a`; then let it crash, come back, and run `then(world)`."""
    results: list[Any] = []

    async def main(world: World) -> None:
        async def first() -> None:
            results.append(body(world))

        async def second() -> None:
            results.append(then(world))

        await world.start("a", first)
        await world.wait("a")
        if then is not None:
            world.crash("a")
            await world.start("a", second)
            await world.wait("a")

    run(main, seed=seed)
    return results[-1]


def test_files_are_written_and_read_but_not_on_the_real_disk(tmp_path: Path) -> None:
    def body(world: World) -> None:
        path = tmp_path / "folder" / "file.txt"
        path.parent.mkdir(parents=True)
        path.write_text("first line\nsecond line\n")
        with path.open("a") as file:
            file.write("third line\n")
        assert path.read_text().splitlines() == ["first line", "second line", "third line"]
        with open(path, "r+b") as file:
            file.seek(6)
            file.write(b"LINE")
            file.seek(0)
            assert file.readline() == b"first LINE\n"
        assert path.exists()
        assert path.is_file()
        assert path.parent.is_dir()
        assert path.stat().st_size == len("first line\nsecond line\nthird line\n")
        assert os.listdir(path.parent) == ["file.txt"]
        path.replace(path.with_name("other.txt"))
        assert not path.exists()
        with pytest.raises(FileNotFoundError):
            path.read_text()
        with pytest.raises(FileExistsError):
            open(path.with_name("other.txt"), "x")
        path.with_name("other.txt").unlink()
        path.parent.rmdir()
        fd = os.open(path, os.O_CREAT | os.O_RDWR)
        assert os.write(fd, b"0123456789") == 10
        assert os.lseek(fd, 3, os.SEEK_SET) == 3
        assert os.read(fd, 4) == b"3456"
        os.ftruncate(fd, 5)
        assert os.fstat(fd).st_size == 5
        os.close(fd)
        with pytest.raises(OSError, match="Bad file"):
            os.read(fd, 1)

    on_host(body)
    assert list(tmp_path.iterdir()) == []


def test_real_files_can_be_read_and_not_changed(tmp_path: Path) -> None:
    real = tmp_path / "config.json"
    real.write_text('{"key": "value"}')

    def body(world: World) -> None:
        assert json.loads(real.read_text()) == {"key": "value"}
        assert real.exists()
        with pytest.raises(Refused, match=r"real file .* at .*test_disk.py"):
            real.unlink()
        with pytest.raises(Refused):
            os.symlink(real, tmp_path / "link")
        real.write_text("changed")
        assert real.read_text() == "changed"

    on_host(body)
    assert real.read_text() == '{"key": "value"}'


def test_hosts_have_disks_of_their_own_and_they_outlive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seen: list[Any] = []

    async def write(text: str) -> None:
        seen.append(path.read_text() if path.exists() else None)
        path.write_text(text)
        await asyncio.sleep(1000)

    async def main(world: World) -> None:
        await world.start("a", write, "of a")
        await world.start("b", write, "of b")
        world.restart("a")
        await asyncio.sleep(1)

    run(main)
    assert seen == [None, None, "of a"]


def test_a_crash_loses_what_was_not_synced_and_keeps_what_was(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def write(world: World) -> None:
        with path.open("wb") as file:
            file.write(b"synced;")
            file.flush()
            os.fsync(file.fileno())
            file.write(b"not synced;" * 10)

    def read(world: World) -> bytes:
        return path.read_bytes()

    left = {on_host(write, seed=seed, then=read) for seed in range(30)}
    whole = b"synced;" + b"not synced;" * 10
    assert all(whole.startswith(each) and each.startswith(b"synced;") for each in left)
    assert len(left) > 10


def test_a_crash_may_undo_renames_but_only_the_newest(tmp_path: Path) -> None:
    def write(world: World) -> None:
        for number in range(5):
            (tmp_path / "new").write_bytes(b"%d" % number)
            (tmp_path / "new").rename(tmp_path / f"file-{number}")
            if number == 1:
                folder = os.open(tmp_path, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)

    def read(world: World) -> tuple[str, ...]:
        return tuple(sorted(os.listdir(tmp_path)))

    left = {on_host(write, seed=seed, then=read) for seed in range(40)}
    for names in left:
        numbers = [int(name[-1]) for name in names if name != "new"]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= 2
    assert len(left) > 3


def test_a_full_disk_and_a_failing_one(tmp_path: Path) -> None:
    def body(world: World) -> None:
        disk = world.host("a").disk
        disk.capacity = 10
        with pytest.raises(OSError, match="No space left") as caught, (tmp_path / "file").open("wb") as file:
            file.write(b"0123456789abcdef")
        assert caught.value.errno == errno.ENOSPC
        assert (tmp_path / "file").read_bytes() == b"0123456789"
        disk.capacity = None
        disk.failing = True
        with (
            pytest.raises(OSError, match="Input/output"),
            (tmp_path / "other").open("wb", buffering=0) as file,
        ):
            file.write(b"x")
        disk.failing = False
        with (tmp_path / "other").open("wb") as file:
            file.write(b"x")
            file.flush()
            disk.failing = True
            with pytest.raises(OSError, match="Input/output"):
                os.fsync(file.fileno())

    on_host(body)


operations = st.lists(
    st.tuples(
        st.sampled_from(["write", "sync", "truncate", "rename", "remove", "create"]),
        st.sampled_from(["p", "q"]),
        st.integers(0, 20),
    ),
    max_size=30,
)


@given(operations, st.integers(0, 1000))
def test_what_was_synced_is_there_after_a_crash(steps: list[tuple[str, str, int]], seed: int) -> None:
    """After any history, a file whose last change was a sync is, at its name, as it was synced."""
    disk = Disk(Tape(seed).stream("disk"))
    safe: dict[str, bytes] = {}
    for kind, name, number in steps:
        file = disk.files.get(name)
        if kind == "create" or file is None:
            disk.create(name)
            safe.pop(name, None)
        elif kind == "write":
            disk.write(file, number, bytes([number]) * 5)
            safe.pop(name, None)
        elif kind == "truncate":
            disk.truncate(file, number)
            safe.pop(name, None)
        elif kind == "sync":
            disk.sync(file)
            safe[name] = bytes(file.data)
        elif kind == "rename":
            disk.rename(name, "r")
            safe.pop(name, None)
            safe.pop("r", None)
        else:
            disk.remove(name)
            safe.pop(name, None)
    disk.lose_power()
    for name, data in safe.items():
        assert bytes(disk.files[name].data) == data


def test_a_calm_crash_keeps_everything() -> None:
    disk = Disk(Tape.recorded({}).stream("disk"))
    disk.write(disk.create("p"), 0, b"never synced")
    disk.rename("p", "q")
    disk.lose_power()
    assert {name: bytes(file.data) for name, file in disk.files.items()} == {"q": b"never synced"}
