"""Libraries on two hosts: each scenario is a server written with plain asyncio and its unmodified client."""

from __future__ import annotations

import asyncio
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from coterie.simulation import World

CERTIFICATE = Path(__file__).parent / "certificate.pem"


async def two_hosts(world: World, serve: Any, use: Any) -> None:
    """Run `serve` on the host `db` and `use` on the host `app`, until that ends."""
    await world.start("db", serve)
    await world.start("app", use, world)
    await world.wait("app")


async def aiohttp(world: World) -> None:
    import aiohttp
    from aiohttp import web

    async def serve() -> None:
        async def greet(request: Any) -> Any:
            return web.json_response({"hello": request.match_info["name"], "body": await request.text()})

        async def chat(request: Any) -> Any:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(message.data.upper())
            return socket

        app = web.Application()
        app.add_routes([web.post("/hello/{name}", greet), web.get("/chat", chat)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", 8080).start()
        await asyncio.Event().wait()

    async def use(world: World) -> None:
        async with aiohttp.ClientSession() as session:
            for number in range(3):
                async with session.post("http://db:8080/hello/you", data=f"number {number}") as response:
                    assert response.status == 200
                    assert await response.json() == {"hello": "you", "body": f"number {number}"}
            async with session.ws_connect("http://db:8080/chat") as socket:
                await socket.send_str("over a web socket")
                assert (await socket.receive()).data == "OVER A WEB SOCKET"
            cuts = world.partition({"app"}, {"db"})
            with pytest.raises(TimeoutError):
                await session.post("http://db:8080/hello/you", timeout=aiohttp.ClientTimeout(total=5))
            world.heal(cuts)
            world.kill("db")
            with pytest.raises(aiohttp.ClientError):
                await session.post("http://db:8080/hello/you")
        await asyncio.sleep(1)

    await two_hosts(world, serve, use)


async def serve_redis() -> None:
    """Enough of RESP for a client to say hello, set, get and publish."""
    data: dict[bytes, bytes] = {}

    async def read(reader: asyncio.StreamReader) -> list[bytes]:
        count = int((await reader.readuntil(b"\r\n"))[1:])
        items = []
        for _ in range(count):
            size = int((await reader.readuntil(b"\r\n"))[1:])
            items.append((await reader.readexactly(size + 2))[:-2])
        return items

    def bulk(value: bytes | None) -> bytes:  # in version 3 of the protocol, which the client asks for
        return b"_\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)

    def answer(command: list[bytes]) -> bytes:
        name = command[0].upper()
        if name == b"SET":
            data[command[1]] = command[2]
        elif name == b"GET":
            return bulk(data.get(command[1]))
        elif name == b"INCRBY":
            data[command[1]] = b"%d" % (int(data.get(command[1], b"0")) + 1)
            return b":%s\r\n" % data[command[1]]
        elif name == b"HELLO":
            fields = (bulk(b"server"), bulk(b"redis"), bulk(b"proto"), b":%s\r\n" % command[1])
            return (b"%2\r\n" if command[1] == b"3" else b"*4\r\n") + b"".join(fields)
        return b"+OK\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(answer(await read(reader)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    await (await asyncio.start_server(serve, port=6379)).serve_forever()


async def redis(world: World) -> None:
    from redis import asyncio as redis

    async def use(world: World) -> None:
        client = redis.Redis(host="db", socket_timeout=2, socket_connect_timeout=2)
        await client.set("key", "value")
        assert await client.get("key") == b"value"
        assert await client.get("nothing") is None
        counted = await asyncio.gather(*(client.incr("counter") for _ in range(5)))  # on five connections
        assert sorted(counted) == [1, 2, 3, 4, 5]
        world.restart("db")
        await asyncio.sleep(1)
        assert await client.get("key") is None
        await client.aclose()

    await two_hosts(world, serve_redis, use)


async def serve_postgres(tls: ssl.SSLContext | None) -> None:
    """Enough of PostgreSQL's protocol, version 3, for a driver to log in and select a number."""

    def message(kind: bytes, body: bytes = b"") -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    def column() -> bytes:
        return message(
            b"T", struct.pack("!H", 1) + b"number\0" + struct.pack("!IHIHIH", 0, 0, 23, 4, 0xFFFFFFFF, 1)
        )

    async def body(reader: asyncio.StreamReader) -> bytes:
        (size,) = struct.unpack("!I", await reader.readexactly(4))
        return await reader.readexactly(size - 4)

    async def log_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if struct.unpack("!I", (await body(reader))[:4])[0] == 80877103:  # SSLRequest
            writer.write(b"S" if tls else b"N")
            if tls:
                await writer.start_tls(tls)
            await body(reader)
        writer.write(message(b"R", struct.pack("!I", 0)))
        for name in (b"server_version\x0015.0", b"client_encoding\0UTF8", b"integer_datetimes\0on"):
            writer.write(message(b"S", name + b"\0"))
        writer.write(message(b"K", struct.pack("!II", 1, 2)) + message(b"Z", b"I"))

    row = message(b"D", struct.pack("!HII", 1, 4, 42))
    answers = {
        b"P": message(b"1"),
        b"D": message(b"t", struct.pack("!H", 0)) + column(),
        b"B": message(b"2"),
        b"E": row + message(b"C", b"SELECT 1\0"),
        b"C": message(b"3"),
        b"S": message(b"Z", b"I"),
        b"Q": message(b"C", b"RESET\0") + message(b"Z", b"I"),
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await log_in(reader, writer)
        while (kind := await reader.readexactly(1)) != b"X":
            await body(reader)
            writer.write(answers.get(kind, b""))
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    await (await asyncio.start_server(handle, port=5432)).serve_forever()


async def postgres(world: World, *, encrypted: bool = False) -> None:
    import asyncpg

    async def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        await serve_postgres(context if encrypted else None)

    async def use(world: World) -> None:
        context = ssl.create_default_context(cafile=str(CERTIFICATE)) if encrypted else False
        connection = await asyncpg.connect(
            host="db", user="user", password="", database="db", ssl=context, timeout=5
        )
        assert await connection.fetchval("SELECT 42") == 42
        assert [row["number"] for row in await connection.fetch("SELECT 42")] == [42]
        world.partition({"app"}, {"db"})
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT 42", timeout=3)
        connection.terminate()

    await two_hosts(world, serve, use)


async def serve_nats() -> None:
    """Enough of NATS for publish, subscribe and request."""
    subscriptions: list[tuple[asyncio.StreamWriter, bytes, bytes]] = []

    def matches(pattern: bytes, subject: bytes) -> bool:
        if pattern.endswith(b"*"):
            return subject.startswith(pattern[:-1])
        return pattern == subject

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = b'{"server_id":"S","version":"2.10.0","max_payload":1048576,"proto":1,"headers":true}'
        writer.write(b"INFO " + info + b"\r\n")
        while line := await reader.readline():
            words = line.split()
            if words[0] == b"PING":
                writer.write(b"PONG\r\n")
            elif words[0] == b"SUB":
                subscriptions.append((writer, words[1], words[-1]))
            elif words[0] == b"PUB":
                body = (await reader.readexactly(int(words[-1]) + 2))[:-2]
                for other, pattern, number in subscriptions:
                    if matches(pattern, words[1]):
                        reply = words[2] + b" " if len(words) == 4 else b""
                        head = b"MSG %s %s %s%d\r\n" % (words[1], number, reply, len(body))
                        other.write(head + body + b"\r\n")
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    await (await asyncio.start_server(handle, port=4222)).serve_forever()


async def nats(world: World) -> None:
    import nats

    async def use(world: World) -> None:
        client = await nats.connect("nats://db:4222", allow_reconnect=False)

        async def answer(message: Any) -> None:
            await message.respond(message.data.upper())

        await client.subscribe("service", cb=answer)
        await client.flush()
        assert (await client.request("service", b"question", timeout=2)).data == b"QUESTION"
        world.partition({"app"}, {"db"})
        with pytest.raises(nats.errors.TimeoutError):
            await client.request("service", b"question", timeout=2)
        world.heal()
        await asyncio.sleep(5)
        assert (await client.request("service", b"again", timeout=2)).data == b"AGAIN"
        await client.close()

    await two_hosts(world, serve_nats, use)


async def postgres_over_tls(world: World) -> None:
    await postgres(world, encrypted=True)
