"""The keeper: a process beside the caller's that owns all that one cluster consists of.

It starts and signals members, runs the proxies, makes the namespaces, and ends everything when the process
that started it is gone, however that went. If the keeper itself is killed, the kernel ends the members.

It reads one JSON object a line, `{"id", "op", ...arguments}`, and answers `{"id", "value"}` or
`{"id", "error"}`, and by itself `{"exited": member, "code"}`. It is an implementation detail of
`coterie.lab.process`; nothing else should speak to it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from . import _linux, _tree
from ._namespaces import Namespaces, why_not
from ._proxy import Link, Proxy

__all__ = ["Keeper", "main"]


class Keeper:
    """The processes, proxies and namespaces of one cluster."""

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self._report = report
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._namespaces: Namespaces | None = None
        self._links: dict[tuple[str, str], Link] = {}
        self._proxies: list[Proxy] = []
        self._to_remove: list[Path] = []
        self._operations: dict[str, Callable[..., Any]] = {
            name.removeprefix("op_"): getattr(self, name) for name in dir(self) if name.startswith("op_")
        }

    async def handle(self, request: dict[str, Any]) -> None:
        """Carry one request out and report how it went."""
        identity, operation = request.pop("id"), request.pop("op")
        try:
            value = await self._operations[operation](**request)
        except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
            self._report({"id": identity, "error": str(error) or type(error).__name__})
        else:
            self._report({"id": identity, "value": value})

    # Processes

    def _start(
        self, argv: list[str], *, log: str, env: dict[str, str], host: str | None, shed_root: bool
    ) -> subprocess.Popen[bytes]:
        namespace = self._namespaces.of(host) if self._namespaces is not None else None
        parent = os.getpid()

        def before() -> None:
            if namespace is not None:
                _linux.enter(namespace)
            if shed_root and os.geteuid() == 0:
                _linux.shed_root()
            _linux.die_with_parent(parent)

        with Path(log).open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - the caller's commands
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
                preexec_fn=before,  # noqa: PLW1509 - this process has one thread
            )
        self._exits[process.pid] = asyncio.get_running_loop().create_future()
        return process

    def reap(self) -> None:
        """Take the exit codes of all that ended, orphans included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (future := self._exits.pop(pid, None)) is not None:
                future.set_result(os.waitstatus_to_exitcode(status))

    async def op_spawn(self, name: str, **how: Any) -> int:
        """Start a member and return its process id."""
        if name in self._processes:
            raise ValueError(f"{name} runs already")
        process = self._processes[name] = self._start(**how)
        self._exits[process.pid].add_done_callback(partial(self._exited, name, process))
        return process.pid

    def _exited(self, name: str, process: subprocess.Popen[bytes], exit_: asyncio.Future[int]) -> None:
        process.returncode = exit_.result()
        del self._processes[name]
        self._report({"exited": name, "code": process.returncode})

    async def op_pause(self, name: str) -> None:
        """Stop a member and all that it started, and wait until each is stopped."""
        pid = self._processes[name].pid
        _tree.send(pid, signal.SIGSTOP)
        while not _tree.all_stopped(pid):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.001)

    async def op_resume(self, name: str) -> None:
        """Let a member and all that it started go on."""
        _tree.send(self._processes[name].pid, signal.SIGCONT)

    async def op_terminate(self, name: str, number: int) -> None:
        """Ask a member alone, by a signal, to stop in an orderly way."""
        os.kill(self._processes[name].pid, number)

    async def op_destroy(self, name: str) -> None:
        """Kill a member and all that it started, and wait until they are gone."""
        if (process := self._processes.get(name)) is not None:
            exit_ = self._exits[process.pid]
            _tree.destroy(process.pid)
            await exit_

    async def op_run(self, timeout_s: float, **how: Any) -> int:
        """Run a program to its end and return its exit code."""
        process = self._start(**how)
        exit_ = self._exits[process.pid]
        try:
            async with asyncio.timeout(timeout_s):
                process.returncode = await asyncio.shield(exit_)
        except TimeoutError:
            _tree.destroy(process.pid)
            process.returncode = await exit_
            raise
        return process.returncode

    # The network

    async def op_namespaces(self, hosts: list[str]) -> dict[str, str]:
        """Make a namespace for each host and return their addresses."""
        if (reason := why_not()) is not None:
            raise ValueError(f"network namespaces cannot be had: {reason}")
        self._namespaces = Namespaces(hosts)
        return {host: self._namespaces.address(host) for host in hosts}

    async def op_proxy(
        self, *, target: str, port: int, host: str, source: str | None, via: str | None, listen: int
    ) -> int:
        """Start a proxy to `target:port` of `host`; return its port on the loopback interface.

        Connections are those of `source`; None asks the kernel which member made them. They are continued
        in the namespace of `via`.
        """
        namespace = self._namespaces.of(via) if self._namespaces is not None else None
        who = self._caller if source is None else lambda _: source
        proxy = Proxy((target, port), host, who, self._link, namespace)
        listening = await proxy.start(listen)
        self._proxies.append(proxy)
        return listening

    def _caller(self, address: tuple[str, int]) -> str | None:
        return _tree.owner_of(address, {name: process.pid for name, process in self._processes.items()})

    def _link(self, source: str, target: str) -> Link:
        return self._links.setdefault((source, target), Link())

    async def op_links(self, conditions: list[dict[str, Any]]) -> None:
        """Set the conditions of all links: `source`, `target`, `cut`, `latency_s`, `jitter_s`, `loss`."""
        given = {(link.pop("source"), link.pop("target")): link for link in conditions}
        if self._namespaces is not None:
            self._namespaces.apply(
                [ends for ends, link in given.items() if link["cut"]],
                {ends: link["loss"] for ends, link in given.items() if link["loss"]},
            )
            # What the kernel drops the proxies in front must not keep back a second time.
            given = {ends: {**link, "cut": False, "loss": 0.0} for ends, link in given.items()}
        for ends in given.keys() | self._links.keys():
            clear = {"cut": False, "latency_s": 0.0, "jitter_s": 0.0, "loss": 0.0}
            self._link(*ends).set(**(clear | given.get(ends, {})))

    async def op_reset(self, a: str | None, b: str | None) -> int:
        """Reset the connections between two hosts, or all that pass a proxy; return how many."""
        return sum(proxy.reset(a, b) for proxy in self._proxies)

    async def op_remove_at_end(self, path: str) -> None:
        """Remove a folder when the cluster ends."""
        self._to_remove.append(Path(path))

    async def end(self) -> None:
        """End all members at once, close the proxies, remove the temporary folders."""
        exits = list(self._exits.values())
        for pid in tuple(self._exits):
            _tree.destroy(pid)
        for proxy in self._proxies:
            await proxy.close()
        if exits:
            await asyncio.wait(exits, timeout=5.0)
        _tree.destroy_children(os.getpid())
        for path in self._to_remove:
            shutil.rmtree(path, ignore_errors=True)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    # Members inherit neither: what they print goes to their logs, and none may hold the caller's pipe open.
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)

    def report(message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):
            os.write(replies, json.dumps(message).encode() + b"\n")

    keeper = Keeper(report)
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGCHLD, keeper.reap)
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_signal_handler(signal.SIGINT, over.set)
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(requests, "rb", 0))
    watched = _watch_parent(loop, over)
    tasks: set[asyncio.Task[None]] = set()

    async def read() -> None:
        while line := await reader.readline():
            task = asyncio.create_task(keeper.handle(json.loads(line)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        over.set()

    reading = asyncio.create_task(read())
    await over.wait()
    reading.cancel()
    for task in tuple(tasks):
        task.cancel()
    await keeper.end()
    report({"ended": True})
    if watched is not None:
        loop.remove_reader(watched)
        os.close(watched)


def _watch_parent(loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> int | None:
    """See the end of the process that started this one, even if a fork of it holds the pipe open."""
    if not hasattr(os, "pidfd_open"):
        return None
    parent = os.getppid()
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:  # an old kernel; or it is gone, and then the pipe is closed
        return None
    loop.add_reader(descriptor, over.set)
    return descriptor


def main() -> None:
    """Keep a cluster until standard input ends."""
    with suppress(OSError, AttributeError):
        _linux.reap_orphans()
    # Not uvloop: it keeps SIGCHLD, by which orphans are seen, to itself.
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
