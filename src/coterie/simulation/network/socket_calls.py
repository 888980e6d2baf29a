"""The loop's calls on sockets: `sock_*`, readers and writers; and those that are refused."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

from ..loop import VirtualLoop
from ..refusal import refuse
from .dial import dial
from .sockets import SimulatedSocket
from .stack import os_error

__all__ = ["SocketCalls"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SocketCalls(VirtualLoop):
    """The virtual loop with what it can do on simulated sockets."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._watched: dict[int, SimulatedSocket] = {}

    async def sock_connect(self, sock: Any, address: Any) -> None:
        if sock.type == socket.SOCK_DGRAM:
            sock.connect(address)
        elif sock.family == socket.AF_UNIX:
            sock.connected(await dial(sock.stack, "", 0, path=os.fspath(address)))
        else:
            host = sock.stack.fabric.resolve(sock.stack, address[0])[0]
            try:
                endpoint = await dial(sock.stack, host, address[1], local=sock.local_address)
            except OSError as error:
                raise os_error(error.errno or 0, f"Connect call failed {tuple(address)}") from None
            if sock.fileno() == -1:
                endpoint.reset()
            else:
                sock.connected(endpoint)

    async def sock_accept(self, sock: Any) -> tuple[Any, Any]:
        while True:
            await sock.wait("readable")
            try:
                return sock.accept()  # type: ignore[no-any-return]
            except BlockingIOError:
                continue

    async def sock_recv(self, sock: Any, n: int) -> bytes:
        while True:
            await sock.wait("readable")
            try:
                return sock.recv(n)  # type: ignore[no-any-return]
            except BlockingIOError:
                continue

    async def sock_recv_into(self, sock: Any, buf: Any) -> int:
        view = memoryview(buf)
        data = await self.sock_recv(sock, len(view))
        view[: len(data)] = data
        return len(data)

    async def sock_recvfrom(self, sock: Any, bufsize: int) -> Any:
        sock.datagrams()
        while True:
            await sock.wait("readable")
            try:
                return sock.recvfrom(bufsize)
            except BlockingIOError:
                continue

    async def sock_recvfrom_into(self, sock: Any, buf: Any, nbytes: int = 0) -> Any:
        view = memoryview(buf)
        data, source = await self.sock_recvfrom(sock, nbytes or len(view))
        view[: len(data)] = data
        return len(data), source

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        view = memoryview(data).cast("B")
        while len(view):
            await sock.wait("writable")
            try:
                view = view[sock.send(view) :]
            except BlockingIOError:
                continue

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> int:
        return sock.sendto(data, address)  # type: ignore[no-any-return]

    async def sock_sendfile(
        self, sock: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool | None = None
    ) -> int:
        file.seek(offset)
        data = file.read() if count is None else file.read(count)
        await self.sock_sendall(sock, data)
        return len(data)

    # Readers and writers.

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._find(fd, add=True).watch("readable", callback, args)

    def remove_reader(self, fd: Any) -> bool:
        return self._find(fd).watch("readable", None)

    def add_writer(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._find(fd, add=True).watch("writable", callback, args)

    def remove_writer(self, fd: Any) -> bool:
        return self._find(fd).watch("writable", None)

    def _find(self, fd: Any, *, add: bool = False) -> SimulatedSocket:
        if isinstance(fd, SimulatedSocket):
            if add:
                self._watched[fd.fileno()] = fd
            return fd
        found = self._watched.get(fd if isinstance(fd, int) else fd.fileno())
        if found is None:
            raise refuse(f"watching the descriptor {fd!r}", "pass the socket itself, made inside of a host")
        return found

    # Executors run their functions at once, on the loop: the same in every run, and no thread.

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()

        def job() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - it is the future's
                future.set_exception(error)

        self.call_later(self._executor_delay_s(), job)
        return future

    def _executor_delay_s(self) -> float:
        return 0.0001

    def set_default_executor(self, executor: Any) -> None:
        """Executors are not used."""

    # Signals reach the process whose code asked for them; `World.signal` sends them.

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        table = getattr(self.scope.owner, "signals", None)
        if table is not None:
            table[int(sig)] = (callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        table = getattr(self.scope.owner, "signals", None)
        return table is not None and table.pop(int(sig), None) is not None

    # What is refused.

    async def subprocess_exec(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        raise refuse("a subprocess", "start another process on a host of the world")

    async def subprocess_shell(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        raise refuse("a subprocess", "start another process on a host of the world")

    async def connect_read_pipe(self, protocol_factory: Any, pipe: Any) -> Any:
        raise refuse("a pipe", "use a simulated socket")

    async def connect_write_pipe(self, protocol_factory: Any, pipe: Any) -> Any:
        raise refuse("a pipe", "use a simulated socket")
