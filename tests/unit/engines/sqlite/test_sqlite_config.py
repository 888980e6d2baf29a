"""URLs, and what can never be a database."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlite_sample import opened, put

from coterie.engines.sqlite import SqliteConfig, open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import InvalidConfiguration, Outcome

NOBODY = 65534


@pytest.mark.parametrize(
    ("url", "path", "synchronous"),
    [
        ("sqlite:///a.db", "a.db", "full"),
        ("sqlite:////var/lib/a.db", "/var/lib/a.db", "full"),
        ("sqlite:///data/a%20b.db?synchronous=NORMAL", "data/a b.db", "normal"),
        ("sqlite:///a%3Fmode=ro", "a?mode=ro", "full"),
    ],
)
def test_a_url_names_a_file(url: str, path: str, synchronous: str) -> None:
    assert SqliteConfig.from_url(url) == SqliteConfig(path=Path(path), synchronous=synchronous)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:", "write sqlite:///relative"),
        ("sqlite:a.db", "write sqlite:///relative"),
        ("sqlite://a.db", "write sqlite:///relative"),
        ("sqlite://host/a.db", "write sqlite:///relative"),
        ("sqlite:///", "write sqlite:///relative"),
        ("sqlite:///a%00.db", "write sqlite:///relative"),
        ("other:///a.db", "write sqlite:///relative"),
        ("sqlite:///:memory:", "memory: is the engine"),
        ("sqlite:///a.db?journal=off", "there is: synchronous"),
        ("sqlite:///a.db#part", "there is: synchronous"),
        ("sqlite:///a.db?synchronous=off", "synchronous must be full or normal, not 'off'"),
    ],
)
async def test_a_wrong_url_says_what_a_right_one_is(url: str, said: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
    assert said in str(caught.value)


async def refusal(path: Path) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        await open_engine(f"sqlite:///{path}", clock=SystemClock(), entropy=SystemEntropy())
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert str(path) in str(caught.value)
    return str(caught.value)


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "is a folder, not a file" in await refusal(tmp_path)


async def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file, not a folder" in await refusal(tmp_path / "file" / "a.db")
    assert "is a file, not a folder" in await refusal(tmp_path / "file" / "deeper" / "a.db")


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user for whom permissions count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_folder_that_may_not_be_written() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with unprivileged():
            assert "may this user write in its folder?" in await refusal(folder / "a.db")
            assert "may this user write in its folder?" in await refusal(folder / "new" / "a.db")
        folder.chmod(0o755)


async def test_a_file_that_may_not_be_read() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with opened(folder / "a.db") as engine:
            await put(engine, "key")
        (folder / "a.db").chmod(0)
        (folder / "a.db-writer").chmod(0o666)
        folder.chmod(0o777)
        with unprivileged():
            assert "may this user read it?" in await refusal(folder / "a.db")


FULL = """
import asyncio, resource, sys
from pathlib import Path
from sqlite_sample import opened, put
from coterie.errors import Unavailable

async def main(path):
    async with opened(Path(path)) as leader, opened(Path(path)) as follower:
        written = 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        failures = []
        for number in range(200):
            engine = follower if number % 2 else leader
            try:
                await put(engine, f"key-{number}", bytes(5000))
            except Unavailable as error:
                failures.append(str(error))
            else:
                written += 1
        assert failures and written, (failures, written)
        print(failures[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for engine in (leader, follower):
            await put(engine, "after", bytes(500_000))
        keys = [entry.key for entry in (await follower.store.scan("key-")).entries]
        assert len(keys) == written, (len(keys), written)
    async with opened(Path(path)) as engine:
        assert len((await engine.store.scan("key-")).entries) == written
        assert await engine.store.get("after") is not None

asyncio.run(main(sys.argv[1]))
"""


def test_writes_fail_while_there_is_no_room_and_succeed_after(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "a.db"],
        cwd=Path(__file__).parent, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"the disk of {tmp_path / 'a.db'} failed" in done.stdout
