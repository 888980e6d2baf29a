"""Module globals of its own for each host, as they are in separate processes.

A module of the program is executed once for each host, so that a cache or a registry at module level
is not shared by accident. Imports inside of functions find the copies of the host that runs them.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
from collections.abc import Callable, Generator, Iterable
from typing import Any, cast

from .host import Host, Process

__all__ = ["Namespaces"]


class Namespaces:
    """Keeps a copy of every module under the names in `private` for each host."""

    def __init__(self, private: Iterable[str], current: Callable[[], object]) -> None:
        self.private: set[str] = set(private)
        self._current = current
        self._import: Any = builtins.__import__

    def covers(self, name: str) -> bool:
        """Whether the module `name` is one of those that each host has for itself."""
        return any(name == each or name.startswith(each + ".") for each in self.private)

    @contextlib.contextmanager
    def installed(self) -> Generator[None, None, None]:
        """Let `import` find a host's own modules while the block runs."""
        before: Any = builtins.__import__
        self._import = before
        builtins.__import__ = cast("Any", self._import_for_host)
        try:
            yield
        finally:
            builtins.__import__ = before

    def _import_for_host(self, name: str, *args: Any, **options: Any) -> Any:
        """Stand in for `__import__(name, globals, locals, fromlist, level)`."""
        process = self._current()
        if isinstance(process, Process) and self.private:
            namespace = options.get("globals") or (args[0] if args else None) or {}
            level = options.get("level", args[3] if len(args) > 3 else 0)
            absolute = name if level == 0 else f"{namespace.get('__package__') or ''}.{name}"
            if self.covers(absolute):
                with self._mounted(process.host):
                    return self._import(name, *args, **options)
        return self._import(name, *args, **options)

    @contextlib.contextmanager
    def _mounted(self, host: Host) -> Generator[None, None, None]:
        """Let `sys.modules` hold the modules of `host` in place of the shared ones."""
        if host.modules.get("mounted"):
            yield
            return
        shared = {name: module for name, module in sys.modules.items() if self.covers(name)}
        for name in shared:
            del sys.modules[name]
        own = {name: module for name, module in host.modules.items() if self.covers(name)}
        sys.modules.update(own)
        host.modules["mounted"] = True
        try:
            yield
        finally:
            host.modules["mounted"] = False
            for name in [name for name in sys.modules if self.covers(name)]:
                host.modules[name] = sys.modules.pop(name)
            sys.modules.update(shared)

    def load(self, host: Host, name: str) -> Any:
        """Return the module `name` as `host` has it."""
        if not self.covers(name):
            return importlib.import_module(name)
        with self._mounted(host):
            return importlib.import_module(name)

    def own(self, host: Host, function: Any) -> Any:
        """Return the copy that `host` has of `function`, if its module is private and holds it by name."""
        module, path = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
        if not self.covers(module) or "<" in path:
            return function
        found: Any = self.load(host, module)
        for part in path.split("."):
            found = getattr(found, part)
        return found
