"""`app.asgi()` in somebody else's server, and `app.connect()` from a script, beside real nodes."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from process_harness import PATIENCE_S, SAMPLE, clean_environment

from coterie import App, Unavailable
from coterie.errors import NotRunning
from coterie.node import NodeConfig, connect

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Program:
    """An app of which each test gets its own."""

    def __init__(self) -> None:
        self.app = app = App("mounted")
        self.counts = app.map("counts", int)
        self.lives: list[str] = []
        program = self

        class Work:
            async def __aenter__(self) -> Work:
                program.lives.append("in")
                return self

            async def __aexit__(self, *_: object) -> None:
                program.lives.append("out")

            async def count(self, key: str) -> int:
                return await program.counts.update(key, lambda n: n + 1, default=0)

        app.service(Work)
        self.work: Any = app.client(Work)


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def test_mounted_in_fastapi_with_its_lifespan() -> None:
    program = Program()
    node = program.app.asgi()
    api = FastAPI(lifespan=node.lifespan)
    api.mount("/services", node)
    async with api.router.lifespan_context(api), client(api) as http:
        assert program.lives == ["in"]
        for expected in (1, 2):
            reply = await http.post("/services/Work/count", json={"key": "k"})
            assert (reply.status_code, reply.json()) == (200, expected)
        assert (await http.get("/services/readyz")).status_code == 200
    assert program.lives == ["in", "out"]


def in_a_fresh_context(make: Callable[[], Any]) -> asyncio.Task[Any]:
    # As a server does it: a request knows nothing of the context in which the node was started.
    return asyncio.get_running_loop().create_task(make(), context=contextvars.Context())


@pytest.mark.parametrize("lazily", [False, True])
async def test_handles_work_in_the_frameworks_own_endpoints(lazily: bool) -> None:
    program = Program()
    node = program.app.asgi()
    api = FastAPI()
    api.add_middleware(node.middleware)

    @api.get("/own")
    async def own() -> int:
        await program.counts.put("k", 5)
        return int(await program.work.count("k"))

    async with AsyncExitStack() as stack:
        if not lazily:
            await stack.enter_async_context(node.lifespan())
        http = await stack.enter_async_context(client(api))
        reply = await in_a_fresh_context(lambda: http.get("/own"))
        assert (reply.status_code, reply.json()) == (200, 6)
    async with node.lifespan():
        pass
    assert program.lives[-1] == "out"


async def test_without_the_middleware_an_endpoint_is_told() -> None:
    program = Program()
    api = FastAPI()

    @api.get("/own")
    async def own() -> int:
        return int(await program.counts.get("k", 0))

    async with program.app.asgi().lifespan(), client(api) as http:
        with pytest.raises(NotRunning, match="outside of a running node"):
            await in_a_fresh_context(lambda: http.get("/own"))


async def test_mounted_within_a_lifespan_of_the_programs_own() -> None:
    program = Program()
    node = program.app.asgi()

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with node.lifespan(api):
            yield

    api = FastAPI(lifespan=lifespan)
    api.mount("/services", node)
    async with api.router.lifespan_context(api), client(api) as http:
        assert (await http.post("/services/Work/count", json={"key": "k"})).json() == 1
    assert program.lives == ["in", "out"]


async def test_mounted_lazily_the_first_request_starts_one_node() -> None:
    program = Program()
    node = program.app.asgi()
    api = FastAPI()
    api.mount("/services", node)
    async with client(api) as http:
        assert program.lives == []
        replies = await asyncio.gather(
            *(http.post("/services/Work/count", json={"key": "k"}) for _ in range(8))
        )
        assert sorted(reply.json() for reply in replies) == [1, 2, 3, 4, 5, 6, 7, 8]
        assert program.lives == ["in"]
    async with node.lifespan():  # Takes over the node that runs, and ends it.
        assert program.lives == ["in"]
    assert program.lives == ["in", "out"]


async def test_after_the_lifespan_requests_are_refused_until_the_next_one() -> None:
    program = Program()
    node = program.app.asgi()
    api = FastAPI()
    api.add_middleware(node.middleware)
    api.mount("/services", node)

    @api.get("/own")
    async def own() -> int:
        with pytest.raises(Unavailable):
            await program.counts.get("k")
        return 1

    async with client(api) as http:
        async with node.lifespan():
            assert (await http.post("/services/Work/count", json={"key": "k"})).json() == 1
        reply = await http.post("/services/Work/count", json={"key": "k"})
        assert (reply.status_code, reply.json()["outcome"]) == (503, "not_applied")
        assert (await http.get("/services/readyz")).status_code == 503
        assert (await in_a_fresh_context(lambda: http.get("/own"))).json() == 1
        assert program.lives == ["in", "out"]
        async with node.lifespan():
            assert (await http.post("/services/Work/count", json={"key": "k"})).json() == 2
    assert program.lives == ["in", "out"] * 2


async def test_a_mounted_node_is_a_member_like_any_other() -> None:
    program = Program()
    async with program.app.asgi().lifespan(), connect(program.app) as connection:
        assert await program.work.count("k") == 1
        [status] = await connection.status()
        assert status.member.services == ("Work",)
        assert status.member.http == ""


async def test_a_node_that_cannot_start_is_told_to_the_server() -> None:
    Path(".coterie").mkdir()
    Path(".coterie/mounted.db").write_bytes(b"no database" * 1000)
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    await Program().app.asgi()({"type": "lifespan"}, receive, send)
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "no SQLite database" in sent[0]["message"]


def test_an_asgi_server_runs_it_by_itself(tmp_path: Path) -> None:
    # In a process of its own, since uvicorn takes the signals of the one that it is in.
    script = f"""
import asyncio, signal, os, sys
import httpx, uvicorn
from coterie.app import load_app

async def main():
    server = uvicorn.Server(uvicorn.Config(load_app({str(SAMPLE)!r}).asgi(), port=0, log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient() as http:
        print((await http.post(f"http://127.0.0.1:{{port}}/Work/count", json={{"key": "k"}})).text)
    server.should_exit = True
    await serving

asyncio.run(main())
"""
    done = subprocess.run(
        (sys.executable, "-c", script), cwd=tmp_path, env=clean_environment(tmp_path),
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


SCRIPT = """
import asyncio
import os
from process_sample import app, counts, work

async def main():
    async with app.connect():
        numbers = [await work.count("from-a-script") for _ in range(10)]
        assert numbers == list(range(1, 11)), numbers
        assert await counts.get("from-a-script") == 10
        pids = {await work.do("script") for _ in range(50)}
        # Both nodes, unless one is so much slower just now that it is spared.
        print(len(pids) in (1, 2) and os.getpid() not in pids, [n async for n in work.numbers(3)])

asyncio.run(main())
"""


def test_a_script_calls_nodes_that_run(shared: Any) -> None:
    environment = clean_environment(shared.folder, {"PYTHONPATH": str(SAMPLE.parent)})
    done = subprocess.run(
        (sys.executable, "-c", SCRIPT), cwd=shared.folder, env=environment,
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("True [0, 1, 2]\n", "", 0)


async def test_without_a_node_a_script_is_told(tmp_path: Path) -> None:
    program = Program()
    async with program.app.connect():
        with pytest.raises(Unavailable, match="no live node offers the service Work"):
            await program.work.count("k")
        assert await program.counts.get("k") is None  # State needs no node.
    with pytest.raises(NotRunning):
        await program.counts.get("k")


async def test_an_engine_may_be_named(tmp_path: Path) -> None:
    program = Program()
    async with program.app.connect(f"sqlite:///{tmp_path}/other.db"):
        await program.counts.put("k", 7)
    config = NodeConfig(engine=f"sqlite:///{tmp_path}/other.db")
    async with connect(program.app, config=config):
        assert await program.counts.get("k") == 7
    assert not (tmp_path / ".coterie").exists()
