"""The same bodies on real sockets and on simulated ones: what passes on one passes on the other."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.simulation.network.calls import SimulationLoop
from coterie.simulation.tape import Tape

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
HERE = Path(__file__).parent


@pytest.fixture(params=["real", "simulated"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(body: Callable[[], Awaitable[Any]]) -> Any:
        if request.param == "real":
            return asyncio.run(settled(body))
        loop = SimulationLoop(Tape(1))
        try:
            return loop.run_until_complete(settled(body))
        finally:
            loop.close()

    return run


async def settled(body: Callable[[], Awaitable[Any]]) -> Any:
    """Run `body`, and wait for the tasks that it leaves behind: those of the servers' connections."""
    result = await body()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=5)
    await asyncio.sleep(0.01)  # Transports that were closed tell their protocols in the next pass.
    return result


def new_socket(kind: int = socket.SOCK_STREAM) -> Any:
    loop = asyncio.get_running_loop()
    sock: Any
    sock = loop.new_socket(kind=kind) if isinstance(loop, SimulationLoop) else socket.socket(type=kind)
    sock.setblocking(False)
    return sock


@contextlib.asynccontextmanager
async def serving(handler: Any, **options: Any) -> Any:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Recorder(asyncio.Protocol):
    """Writes down what asyncio calls, in order."""

    def __init__(self, *, keep_open: bool = False) -> None:
        self.seen: list[Any] = []
        self.keep_open = keep_open
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.seen.append("made")

    def data_received(self, data: bytes) -> None:
        if self.seen and isinstance(self.seen[-1], bytes):
            self.seen[-1] += data
        else:
            self.seen.append(data)

    def eof_received(self) -> bool:
        self.seen.append("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.seen.append("pause")

    def resume_writing(self) -> None:
        self.seen.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.seen.append(("lost", type(exc).__name__))
        if not self.lost.done():
            self.lost.set_result(None)


def test_bytes_arrive_in_order(run: Run) -> None:
    async def body() -> None:
        async with serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sent = b"".join(b"%d," % number for number in range(5000))
            for start in range(0, len(sent), 777):
                writer.write(sent[start : start + 777])
            writer.write_eof()
            assert await reader.read() == sent
            writer.close()
            await writer.wait_closed()

    run(body)


def test_a_refused_connection(run: Run) -> None:
    async def body() -> None:
        async with serving(echo) as port:
            pass
        with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('127.0.0.1', \d+\)"):
            await asyncio.open_connection("127.0.0.1", port)

    run(body)


def test_an_unknown_name(run: Run) -> None:
    async def body() -> None:
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("no-such-host.invalid", 80)

    run(body)


def test_an_address_in_use(run: Run) -> None:
    async def body() -> None:
        async with serving(echo) as port:
            with pytest.raises(OSError, match="address already in use"):
                await asyncio.start_server(echo, "127.0.0.1", port)

    run(body)


def test_half_close_and_eof(run: Run) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        protocols: list[Recorder] = []

        def factory() -> Recorder:
            protocols.append(Recorder(keep_open=True))
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        client_transport, client = await loop.create_connection(
            Recorder, "127.0.0.1", server.sockets[0].getsockname()[1]
        )
        client_transport.write(b"question")
        client_transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            client_transport.write(b"more")
        while not protocols or "eof" not in protocols[0].seen:
            await asyncio.sleep(0.001)
        protocols[0].transport.write(b"answer")
        protocols[0].transport.close()
        await client.lost
        await protocols[0].lost
        assert client.seen == ["made", b"answer", "eof", ("lost", "NoneType")]
        assert protocols[0].seen == ["made", b"question", "eof", ("lost", "NoneType")]
        server.close()
        await server.wait_closed()

    run(body)


def test_a_close_with_unread_bytes_resets_the_peer(run: Run) -> None:
    async def body() -> None:
        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            writer.transport.pause_reading()
            await asyncio.sleep(0.2)
            writer.close()

        async with serving(rude, limit=1) as port:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", port)
            transport.write(b"x" * 100)
            await asyncio.sleep(0.1)
            transport.write(b"y" * 100)
            await protocol.lost
            assert protocol.seen == ["made", ("lost", "ConnectionResetError")]

    run(body)


def test_writing_to_a_closed_peer_fails(run: Run) -> None:
    async def body() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with serving(hang_up) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""

            async def write_on() -> None:
                for _ in range(100):
                    writer.write(b"x" * 1000)
                    await writer.drain()
                    await asyncio.sleep(0.01)

            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await write_on()

    run(body)


def test_a_slow_reader_pauses_the_writer(run: Run) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        protocols: list[Recorder] = []

        def factory() -> Recorder:
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        transport, client = await loop.create_connection(
            Recorder, "127.0.0.1", server.sockets[0].getsockname()[1]
        )
        while not protocols:
            await asyncio.sleep(0.001)
        protocols[0].transport.pause_reading()
        assert not protocols[0].transport.is_reading()
        total = 0
        while "pause" not in client.seen:
            transport.write(bytes(100_000))
            total += 100_000
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
        protocols[0].transport.resume_reading()
        while "resume" not in client.seen:
            await asyncio.sleep(0.001)
        transport.close()
        await protocols[0].lost
        assert protocols[0].seen[0] == "made"
        assert len(protocols[0].seen[1]) == total
        assert protocols[0].seen[2:] == ["eof", ("lost", "NoneType")]
        assert client.seen == ["made", "pause", "resume", ("lost", "NoneType")]
        server.close()

    run(body)


def test_buffered_protocols(run: Run) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(7)
            self.got = b""
            self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.got += self.buffer[:nbytes]

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost.set_result(None)

    async def body() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"a greeting of more than seven bytes")
            writer.close()

        async with serving(greet) as port:
            _, protocol = await asyncio.get_running_loop().create_connection(Buffered, "127.0.0.1", port)
            await protocol.lost
            assert protocol.got == b"a greeting of more than seven bytes"

    run(body)


def test_abort_and_connection_lost_once(run: Run) -> None:
    async def body() -> None:
        async with serving(echo) as port:
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, "127.0.0.1", port
            )
            assert transport.get_extra_info("peername") == ("127.0.0.1", port)
            assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
            assert transport.get_extra_info("socket").family == socket.AF_INET
            transport.abort()
            transport.abort()
            transport.close()
            assert transport.is_closing()
            await protocol.lost
            await asyncio.sleep(0.01)
            assert protocol.seen == ["made", ("lost", "NoneType")]

    run(body)


def test_the_context_of_a_server_reaches_its_connections(run: Run) -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")

    async def body() -> None:
        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(variable.get().encode())
            writer.close()

        variable.set("of the server")
        async with serving(tell) as port:
            variable.set("of the client")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b"of the server"
            writer.close()

    run(body)


def test_servers_that_start_later_and_wait_closed(run: Run) -> None:
    async def body() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, start_serving=False)
        assert not server.is_serving()
        await server.start_serving()
        assert server.is_serving()
        forever = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever
        assert not server.is_serving()
        assert server.sockets == ()
        await server.wait_closed()

    run(body)


def test_waiting_for_a_closed_server_waits_for_its_connections_from_3_12_on(run: Run) -> None:
    async def body() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.sleep(0.01)
        server.close()
        waiting = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(0.01)
        assert waiting.done() is (sys.version_info < (3, 12))
        writer.close()
        await waiting

    run(body)


def test_unix_sockets(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(echo, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"over a path")
        assert await reader.readexactly(11) == b"over a path"
        assert writer.get_extra_info("peername") == path
        writer.close()
        server.close()

    run(body)


def test_calls_on_sockets(run: Run) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        listening = new_socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client = new_socket()
        accepting = asyncio.create_task(loop.sock_accept(listening))
        await loop.sock_connect(client, listening.getsockname())
        server, address = await accepting
        assert address == client.getsockname()
        with pytest.raises(BlockingIOError):
            client.recv(1)
        await loop.sock_sendall(client, b"question")
        assert await loop.sock_recv(server, 100) == b"question"
        buffer = bytearray(3)
        await loop.sock_sendall(server, b"abcdef")
        assert await loop.sock_recv_into(client, buffer) == 3
        assert buffer == b"abc"
        assert await loop.sock_recv(client, 100) == b"def"
        big = asyncio.create_task(loop.sock_sendall(client, bytes(2_000_000)))
        received = 0
        while received < 2_000_000:
            received += len(await loop.sock_recv(server, 100_000))
        await big
        client.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(server, 100) == b""
        for each in (client, server, listening):
            each.close()
        assert client.fileno() == -1

    run(body)


def test_a_connected_socket_becomes_a_transport(run: Run) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        async with serving(echo) as port:
            sock = new_socket()
            await loop.sock_connect(sock, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=sock)
            writer.write(b"adopted")
            assert await reader.readexactly(7) == b"adopted"
            writer.close()
            await writer.wait_closed()

    run(body)


def test_readers_and_writers(run: Run) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        async with serving(echo) as port:
            sock = new_socket()
            await loop.sock_connect(sock, ("127.0.0.1", port))
            seen: list[bytes] = []
            full = asyncio.Event()

            def read() -> None:
                seen.append(sock.recv(2))
                if sum(map(len, seen)) == 6:
                    full.set()

            def write() -> None:
                loop.remove_writer(sock)
                sock.send(b"abcdef")

            loop.add_reader(sock, read)
            loop.add_writer(sock.fileno(), write)
            await full.wait()
            assert seen == [b"ab", b"cd", b"ef"]
            assert loop.remove_reader(sock)
            assert not loop.remove_reader(sock)
            sock.close()

    run(body)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: bool = False) -> None:
        self.answer = answer
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.answer:
            self.transport.sendto(data.upper(), addr)
        else:
            self.queue.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.queue.put_nowait(type(exc).__name__)


def test_datagrams(run: Run) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(lambda: Datagrams(True), ("127.0.0.1", 0))
        client, protocol = await loop.create_datagram_endpoint(
            Datagrams, remote_addr=server.get_extra_info("sockname")
        )
        client.sendto(b"a")
        assert await protocol.queue.get() == b"A"
        client.sendto(b"")
        server.close()
        await asyncio.sleep(0.01)
        client.sendto(b"nobody there")
        with pytest.raises(ValueError, match="Invalid address"):
            client.sendto(b"x", ("127.0.0.1", 1))
        while (await protocol.queue.get()) != "ConnectionRefusedError":
            pass
        client.close()
        await asyncio.sleep(0)

    run(body)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(HERE / "certificate.pem")
    client = ssl.create_default_context(cafile=str(HERE / "certificate.pem"))
    return server, client


# CPython leaves a transport unclosed when the peer's certificate is refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls(run: Run) -> None:
    async def body() -> None:
        server, client = contexts()
        async with serving(echo, ssl=server) as port:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname="localhost"
            )
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            writer.write(b"secret" * 100_000)
            assert await reader.readexactly(600_000) == b"secret" * 100_000
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="other")
            gc.collect()

    run(body)


def test_start_tls_in_mid_stream(run: Run) -> None:
    async def body() -> None:
        server, client = contexts()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.drain()
            await writer.start_tls(server)
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        async with serving(handle) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(client, server_hostname="localhost")
            writer.write(b"private\n")
            assert await reader.readline() == b"private\n"
            writer.close()

    run(body)


def test_a_cancelled_connect_leaves_nothing(run: Run) -> None:
    async def body() -> None:
        connected: list[int] = []

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.append(1)
            assert await reader.read() == b""
            writer.close()

        async with serving(count) as port:
            task = asyncio.create_task(asyncio.open_connection("127.0.0.1", port))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.sleep(0.05)
            assert connected

    run(body)


def test_the_errors_of_wrong_arguments(run: Run) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        for arguments in (
            {"ssl": True, "sock": object()},
            {"server_hostname": "x", "host": "h", "port": 1},
            {},
        ):
            with pytest.raises(ValueError, match=r"host|ssl|sock"):
                await loop.create_connection(asyncio.Protocol, **arguments)
        with pytest.raises(ValueError, match="Neither"):
            await loop.create_server(asyncio.Protocol)
        async with serving(echo) as port:
            transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            with pytest.raises(TypeError, match="bytes-like"):
                transport.write("text")  # type: ignore[arg-type]
            transport.close()

    run(body)
