"""What can be done to hosts: start, end, kill, crash, restart, pause, and what a host sees of itself."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from coterie.errors import InvalidArgument
from coterie.simulation import ProcessFailed, Refused, World, run

BEGINNING = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


async def ask(host: str, port: int = 80, question: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(question)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def serve_name() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(socket.gethostname().encode())
        writer.close()

    server = await asyncio.start_server(answer, port=80)
    await server.serve_forever()


def test_hosts_are_reached_by_their_names() -> None:
    async def main(world: World) -> None:
        await world.start("a", serve_name)
        await world.start("b", serve_name)
        assert await ask("a") == b"a"
        assert await ask("b") == b"b"
        assert await ask(world.host("b").stack.address) == b"b"
        with pytest.raises(socket.gaierror):
            await ask("c")

    run(main)


def test_a_universe_is_the_same_in_every_run_and_differs_by_seed() -> None:
    def universe(seed: int) -> tuple[str, Any]:
        seen: list[Any] = []

        async def client() -> None:
            seen.extend([(await ask("a"), random.random(), uuid.uuid4(), time.time()) for _ in range(5)])

        async def main(world: World) -> str:
            await world.start("a", serve_name)
            await world.start("b", client)
            await world.wait("b")
            return world.digest()

        return run(main, seed=seed), seen

    assert universe(1) == universe(1)
    assert universe(1) != universe(2)


def test_a_killed_process_runs_no_finally_and_its_peers_see_the_end() -> None:
    seen: list[str] = []
    ticks: list[int] = []

    async def serve() -> None:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                seen.append("finally of a handler")

        async def generate() -> Any:
            try:
                while True:
                    yield await asyncio.sleep(1)
            finally:
                seen.append("finally of a generator")

        try:
            await asyncio.start_server(hold, port=80)
            async for _ in generate():
                ticks.append(1)  # noqa: PERF401 - a comprehension would tell at its end, which never comes
        finally:
            seen.append("finally of main")

    async def main(world: World) -> None:
        await world.start("a", serve)
        reader, writer = await asyncio.open_connection("a", 80)
        await asyncio.sleep(1.5)
        world.kill("a")
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await ask("a")
        gc.collect()
        await asyncio.sleep(10)

    run(main)
    gc.collect()
    assert seen == []
    assert ticks == [1]


def test_a_crashed_machine_is_silent_and_unknown_connections_are_reset_after_its_boot() -> None:
    async def main(world: World) -> None:
        await world.start("a", serve_echo)
        reader, writer = await asyncio.open_connection("a", 80)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        world.crash("a")
        writer.write(b"y")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await reader.read(1)
        with pytest.raises(TimeoutError):
            await ask("a")  # Nobody says that there is nobody: 127 s of silence.
        assert world.time > 150
        world.restart("a")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        assert await ask("a", question=b"again") == b"again"
        writer.close()

    run(main)


async def serve_echo() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, port=80)
    await server.serve_forever()


def test_a_restarted_host_starts_anew() -> None:
    starts: list[float] = []

    async def serve() -> None:
        starts.append(time.time())
        await serve_name()

    async def main(world: World) -> None:
        await world.start("a", serve)
        await asyncio.sleep(5)
        world.restart("a")
        await asyncio.sleep(0)
        assert await ask("a") == b"a"
        assert len(world.host("a").running) == 1

    run(main)
    assert starts[1] - starts[0] == pytest.approx(5, abs=0.01)


def test_a_paused_host_goes_on_later_and_its_kernel_does_all_the_time() -> None:
    ticks: list[float] = []

    async def tick() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), port=80)
        async with server:
            while True:
                await asyncio.sleep(1)
                ticks.append(asyncio.get_running_loop().time())

    async def main(world: World) -> None:
        await world.start("a", tick)
        await asyncio.sleep(2.5)
        world.pause("a", 10)
        # The kernel accepts connections for a program that does not.
        reader, writer = await asyncio.open_connection("a", 80)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await reader.read()
        assert await reader.read() == b""
        assert world.time == pytest.approx(12.5, abs=0.01)
        writer.close()
        await asyncio.sleep(1.6)

    run(main)
    assert ticks == pytest.approx([1, 2, 12.5, 13.5], abs=0.01)


def test_a_process_ends_as_under_asyncio_run() -> None:
    seen: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            seen.append("background finally")

    async def short() -> None:
        task = asyncio.create_task(background())
        await asyncio.start_server(lambda reader, writer: None, port=80)
        await asyncio.sleep(1)
        del task

    async def main(world: World) -> None:
        process = await world.start("a", short)
        await world.wait("a")
        assert world.time == pytest.approx(2, abs=0.01)
        assert not process.alive
        with pytest.raises(ConnectionRefusedError):
            await ask("a")

    run(main)
    assert seen == ["background finally"]


def test_a_process_that_fails_fails_the_run_unless_it_may() -> None:
    async def bad() -> None:
        raise ValueError("for a reason")

    async def leave() -> None:
        sys.exit(0)

    async def main(world: World) -> None:
        await world.start("a", bad)
        await world.start("b", leave)
        await world.wait("a")
        await world.wait("b")

    async def lenient(world: World) -> None:
        world.strict = False
        await main(world)

    with pytest.raises(ProcessFailed, match="on a ended with ValueError: for a reason"):
        run(main)
    run(lenient)


def test_signals_reach_their_handlers_or_end_the_process() -> None:
    seen: list[str] = []

    async def graceful() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        seen.append("graceful")

    async def old_fashioned() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(f"signal {number}"))
        await asyncio.sleep(10)

    async def careless() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            seen.append("never")

    async def interrupted() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            seen.append("interrupted")

    async def main(world: World) -> None:
        for name, function in (("a", graceful), ("b", old_fashioned), ("c", careless)):
            await world.start(name, function)
            world.signal(name)
            await world.wait(name)
        await world.start("d", interrupted)
        world.signal("d", signal.SIGINT)
        await world.wait("d")

    run(main)
    assert seen == ["graceful", f"signal {int(signal.SIGTERM)}", "interrupted"]


def test_every_way_to_ask_for_the_time_gives_that_of_the_host() -> None:
    seen: dict[str, list[Any]] = {}

    async def look() -> None:
        await asyncio.sleep(10)
        seen[socket.gethostname()] = [
            time.time(),
            time.time_ns() / 1e9,
            time.clock_gettime(time.CLOCK_REALTIME),
            dt.datetime.now(dt.UTC).timestamp(),
            dt.datetime.fromtimestamp(time.mktime(time.localtime()), dt.UTC).timestamp(),
            uuid_time(),
        ]
        assert time.monotonic() == monotonic() == time.perf_counter()
        assert time.monotonic() == pytest.approx(10, abs=0.01)

    async def main(world: World) -> None:
        world.add_host("fast")
        world.clock("fast", offset_s=3600)
        await world.start("fast", look)
        await world.start("right", look)
        await world.wait("fast")
        await world.wait("right")

    real = dt.datetime.now(dt.UTC)
    run(main)
    for name, offset_s in (("fast", 3600), ("right", 0)):
        assert seen[name] == pytest.approx([BEGINNING.timestamp() + 10 + offset_s] * 6, abs=1)
    assert abs((dt.datetime.now(dt.UTC) - real).total_seconds()) < 60


def uuid_time() -> float:
    return (uuid.uuid1().time - 0x01B21DD213814000) / 1e7


def test_drift_and_jumps() -> None:
    seen: list[tuple[float, float]] = []

    async def look() -> None:
        while True:
            seen.append((time.time() - BEGINNING.timestamp(), time.monotonic()))
            await asyncio.sleep(100)

    async def main(world: World) -> None:
        await world.start("a", look)
        await asyncio.sleep(50)
        world.clock("a", drift_ppm=10_000)
        await asyncio.sleep(100)
        world.clock("a", drift_ppm=0, offset_s=-7)
        await asyncio.sleep(100)
        assert world.host("a").clock.drift_ppm == 0

    run(main)
    walls, monotonics = zip(*seen, strict=True)
    assert walls == pytest.approx([0, 100.5, 193], abs=0.01)
    assert monotonics == pytest.approx([0, 100.5, 201], abs=0.01)


def test_every_source_of_randomness_is_the_hosts_own_and_repeatable() -> None:
    def look_at(seed: int) -> dict[str, list[Any]]:
        seen: dict[str, list[Any]] = {}

        async def look() -> None:
            seen[socket.gethostname()] = [
                random.random(),
                random.Random().random(),
                random.SystemRandom().random(),
                os.urandom(8),
                secrets.token_hex(),
                uuid.uuid4(),
                uuid.uuid1(),
                os.getpid(),
                {str(number) for number in range(3)},
            ]

        async def main(world: World) -> None:
            await world.start("a", look)
            await world.start("b", look)

        run(main, seed=seed)
        return seen

    first = look_at(1)
    assert first == look_at(1)
    other = look_at(2)
    for index in range(7):
        assert len({repr(each[index]) for each in (first["a"], first["b"], other["a"], other["b"])}) == 4


@pytest.mark.parametrize(
    "do",
    [
        lambda: time.sleep(1),
        lambda: threading.Thread(target=print).start(),
        lambda: subprocess.run(["true"], check=False),
        lambda: os.system("true"),
        lambda: os.fork(),  # noqa: PLW0108 - the substitute is what has to be found
        lambda: socket.create_connection(("a", 80)),
        lambda: socket.socketpair(),  # noqa: PLW0108
        lambda: __import__("sqlite3").connect("file.db"),
    ],
)
def test_what_escapes_is_refused_with_the_line_that_does_it(do: Any) -> None:
    async def escape() -> None:
        do()

    async def main(world: World) -> None:
        world.strict = False
        process = await world.start("a", escape)
        await world.wait("a")
        assert isinstance(process.error, Refused)
        assert "test_world.py:" in str(process.error)
        assert process.error.hint

    run(main)


def test_a_program_sees_its_own_tasks_only() -> None:
    seen: dict[str, int] = {}

    async def program(name: str, more: int) -> None:
        tasks = [asyncio.create_task(asyncio.sleep(100)) for _ in range(more)]
        await asyncio.sleep(1)
        seen[name] = len(asyncio.all_tasks())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def main(world: World) -> None:
        await world.start("a", program, "a", 1)
        await world.start("b", program, "b", 2)
        await world.wait("a")
        await world.wait("b")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert world.time < 2

    run(main)
    assert seen == {"a": 2, "b": 3}


def test_work_for_threads_runs_at_once() -> None:
    async def main(world: World) -> None:
        assert await asyncio.to_thread(lambda: threading.current_thread().name) == "MainThread"
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().run_in_executor(None, lambda: 1 / 0)

    run(main)


def test_outside_of_a_simulation_nothing_has_changed() -> None:
    before = (time.time, random.random, socket.socket, os.urandom, subprocess.Popen.__init__, dt.datetime.now)

    async def main(world: World) -> None:
        assert time.time is not before[0]

    run(main)
    assert before == (
        time.time,
        random.random,
        socket.socket,
        os.urandom,
        subprocess.Popen.__init__,
        dt.datetime.now,
    )
    assert monotonic is time.monotonic


def test_each_host_has_its_own_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    async def main(world: World) -> None:
        await world.start("a", "private_program:main", "a")
        await world.start("b", "private_program:main", "b")
        assert await ask("a") == b"['a']"
        assert await ask("b") == b"['b']"
        assert await ask("a") == b"['a', 'a']"
        world.restart("a")
        await asyncio.sleep(0)
        assert await ask("a") == b"['a']"
        assert "private_program" not in sys.modules

    run(main)


def test_unknown_hosts_are_named() -> None:
    async def main(world: World) -> None:
        await world.start("a", serve_name)
        for act in (world.kill, world.restart, world.pause, world.crash, world.signal):
            with pytest.raises(InvalidArgument, match="no host called 'b'; there are a"):
                act("b")
        with pytest.raises(InvalidArgument, match="no host called 'b'"):
            world.partition({"a"}, {"b"})
        with pytest.raises(InvalidArgument, match="cannot be called"):
            await world.start("world", serve_name)
        with pytest.raises(InvalidArgument, match="module:function"):
            await world.start("a", "nothing")

    run(main)
