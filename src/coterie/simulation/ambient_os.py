"""Processes, names, sockets and threads as a simulated host sees them, or is refused them."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from .ambient import Substitutes, current_environment, current_loop
from .ambient_time import _bytes
from .network.sockets import SimulatedSocket
from .refusal import refuse

__all__ = ["substitute"]


def _refused(what: str, hint: str) -> Callable[[Any], Any]:
    """Make a substitute that refuses inside of a simulation."""

    def make(original: Any) -> Any:
        def virtual(*args: Any, **kwargs: Any) -> Any:
            if current_environment() is not None:
                raise refuse(what, hint)
            return original(*args, **kwargs)

        virtual.__name__ = getattr(original, "__name__", what)
        return virtual

    return make


def _attribute(name: str) -> Callable[[Any], Any]:
    """Make a substitute that answers with an attribute of the machine."""

    def make(original: Any) -> Any:
        def virtual() -> Any:
            machine = current_environment()
            return original() if machine is None else getattr(machine, name)

        return virtual

    return make


def _socket(original: Any) -> Any:
    """Make a substitute for the class `socket.socket`, which tells its own from real ones and knows both."""

    class Kind(type(original)):  # type: ignore[misc]
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            loop = current_loop()
            if loop is None or cls is not substitute_class:
                target = original if cls is substitute_class else cls
                return type.__call__(target, *args, **kwargs)
            if kwargs.get("fileno") is not None or len(args) > 3:
                raise refuse("a socket of a real descriptor", "make the socket anew")
            kind = kwargs.get("type", args[1] if len(args) > 1 else socket.SOCK_STREAM)
            family = kwargs.get("family", args[0] if args else socket.AF_INET)
            proto = kwargs.get("proto", args[2] if len(args) > 2 else 0)
            family = socket.AF_INET if family == -1 else family
            return loop.new_socket(family, socket.SOCK_STREAM if kind == -1 else kind, max(0, proto))

        def __instancecheck__(cls, instance: object) -> bool:
            if cls is substitute_class:
                return isinstance(instance, (original, SimulatedSocket))
            return type.__instancecheck__(cls, instance)

    substitute_class: Any = Kind("socket", (original,), {"__doc__": original.__doc__, "__slots__": ()})
    return substitute_class


def _getaddrinfo(original: Any) -> Any:
    def virtual(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002, PLR0917
        loop = current_loop()
        if loop is None:
            return original(host, port, family, type, proto, flags)
        return loop.getaddrinfo_now(host, port, family, type, flags)

    return virtual


def _gethostbyname(original: Any) -> Any:
    def virtual(hostname: str) -> Any:
        loop = current_loop()
        return original(hostname) if loop is None else loop.fabric.resolve(loop.stack, hostname)[0]

    return virtual


def _getfqdn(original: Any) -> Any:
    def virtual(name: str = "") -> Any:
        machine = current_environment()
        return original(name) if machine is None else name or machine.hostname

    return virtual


def _sqlite(original: Any) -> Any:
    def virtual(database: Any, *args: Any, **kwargs: Any) -> Any:
        if current_environment() is not None and database != ":memory:":
            raise refuse(f"the SQLite file {database!r}", "use :memory:, or an engine's stand-in")
        return original(database, *args, **kwargs)

    return virtual


def _signal(original: Any) -> Any:
    def virtual(signalnum: int, handler: Any) -> Any:
        loop = current_loop()
        if loop is None or loop.scope is loop.world:
            return original(signalnum, handler)
        loop.add_signal_handler(signalnum, handler, signalnum, None)
        return signal.SIG_DFL

    return virtual


def _all_tasks(original: Any) -> Any:
    """Make a substitute for `asyncio.all_tasks`: a program must not cancel those of other hosts."""

    def virtual(loop: Any = None) -> Any:
        running = current_loop()
        if running is None or loop not in {None, running}:
            return original(loop)
        return {task for task in original(running) if getattr(task, "scope", None) is running.scope}

    return virtual


def substitute(substitutes: Substitutes) -> None:
    """Add the operating system to `substitutes`."""
    substitutes.replace(asyncio, "all_tasks", _all_tasks)
    substitutes.replace(os, "urandom", _bytes)
    substitutes.replace(os, "getrandom", _bytes)
    substitutes.replace(os, "getpid", _attribute("pid"))
    substitutes.replace(socket, "gethostname", _attribute("hostname"))
    substitutes.replace(socket, "getfqdn", _getfqdn)
    substitutes.replace(socket, "getaddrinfo", _getaddrinfo)
    substitutes.replace(socket, "gethostbyname", _gethostbyname)
    substitutes.replace(socket, "socket", _socket)
    substitutes.replace(socket, "socketpair", _refused("a socket pair", "use a server on the host itself"))
    substitutes.replace(sqlite3, "connect", _sqlite)
    substitutes.replace(signal, "signal", _signal)
    process = "start another process on a host of the world"
    for name in ("fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp", "execv", "execve"):
        substitutes.replace(os, name, _refused(f"os.{name}", process))
    substitutes.replace_attribute(subprocess.Popen, "__init__", _refused("a subprocess", process))
    thread = "threads run in an order of their own; use tasks, or asyncio.to_thread, which runs at once"
    substitutes.replace_attribute(threading.Thread, "start", _refused("a thread", thread))
    substitutes.replace(_thread, "start_new_thread", _refused("a thread", thread))
