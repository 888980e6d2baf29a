"""Writes the tables of the docs that the code knows better.

python docs/generate.py           bring them up to date
python docs/generate.py --check   exit 1 if one is out of date; a test does that
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from coterie import errors
from coterie.engines.etcd import guarantees as etcd
from coterie.engines.memory import MemoryNetwork
from coterie.engines.memory import open_engine as open_memory
from coterie.engines.nats import guarantees as nats
from coterie.engines.nats.wire import WireLimits
from coterie.engines.postgres import schema as postgres
from coterie.engines.redis import guarantees as redis_guarantees
from coterie.engines.sqlite import open_engine as open_sqlite
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.engines.tcp import TcpWire
from coterie.node.config import OPTIONS, NodeConfig
from coterie.ports import Engine, LogGuarantees, StoreGuarantees

__all__ = ["out_of_date"]

FOLDER = Path(__file__).parent


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [[str(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def error_table() -> str:
    """Return every error, its code, its outcome and what it means."""
    classes = [getattr(errors, name) for name in errors.__all__ if name not in {"Outcome", "CoterieError"}]
    return table(
        ["error", "code", "outcome", "meaning"],
        (
            (
                f"`{cls.__name__}`",
                f"`{cls.code}`",
                cls.default_outcome.replace("_", " "),
                (cls.__doc__ or "").split("\n\n")[0].replace("\n    ", " "),
            )
            for cls in sorted(classes, key=lambda cls: cls.__name__)
        ),
    )


async def engines(folder: Path) -> list[tuple[str, Engine]]:
    """Open one engine for each row of the matrix."""
    clock, entropy = SystemClock(), SystemEntropy()
    return [
        ("`memory:`", await open_memory("memory:", clock=clock, entropy=entropy)),
        ("`sqlite:`", await open_sqlite(f"sqlite:///{folder}/a.db", clock=clock, entropy=entropy)),
        (
            "`sqlite:` with `synchronous=normal`",
            await open_sqlite(f"sqlite:///{folder}/b.db?synchronous=normal", clock=clock, entropy=entropy),
        ),
    ]


def servers() -> list[tuple[str, tuple[StoreGuarantees | None, LogGuarantees | None]]]:
    """Return what engines promise that need a server, by the settings that decide it."""
    standbys = postgres.Settings(synchronous_standby_names="ANY 1 (a, b)")
    return [
        ("`nats:` with three replicas that sync always", nats.guarantees(replicas=3, synced=True)),
        ("`nats:` with one server that syncs always", nats.guarantees(replicas=1, synced=True)),
        ("`nats:` where that cannot be seen", nats.guarantees(replicas=3, synced=False)),
        ("`etcd:` with three members or more", (etcd.guarantees(3), None)),
        ("`etcd:` with one member", (etcd.guarantees(1), None)),
        ("`postgresql:`", postgresql(postgres.Settings())),
        ("`postgresql:` with a majority of synchronous standbys", postgresql(standbys)),
        ("`postgresql:` with `fsync = off`", postgresql(postgres.Settings(fsync="off"))),
        ("`redis:`, `valkey:` with `appendfsync always`", redis({"appendfsync": "always"})),
        ("`redis:`, `valkey:` with `appendfsync everysec`", redis({"appendfsync": "everysec"})),
    ]


def postgresql(settings: postgres.Settings) -> tuple[StoreGuarantees, LogGuarantees]:
    """Return what PostgreSQL promises with these settings."""
    return postgres.store_guarantees(settings), postgres.log_guarantees(settings)


def redis(settings: dict[str, str]) -> tuple[StoreGuarantees, LogGuarantees]:
    """Return what Redis promises with these settings."""
    return redis_guarantees.guarantees(*redis_guarantees.durability_of({"appendonly": "yes", **settings}))


async def guarantee_tables() -> str:
    """Return what each engine guarantees, port by port."""
    with TemporaryDirectory() as folder:
        opened = await engines(Path(folder))
        stores = [(name, engine.store.guarantees) for name, engine in opened if engine.store]
        logs = [(name, engine.log.guarantees) for name, engine in opened if engine.log]
        for _, engine in opened:
            await engine.close()
    for name, (store, log) in servers():
        stores += [(name, store)] if store else []
        logs += [(name, log)] if log else []
    network, tcp = MemoryNetwork(), TcpWire(entropy=SystemEntropy())
    over_nats = nats.wire_guarantees(
        max_body_bytes=WireLimits().max_body_bytes, encrypted=False, authenticated=False
    )
    wires = [
        ("in memory", network.wire("a").guarantees),
        ("TCP, Unix socket", tcp.guarantees),
        ("`nats:`", over_nats),
    ]
    await tcp.close()
    return "\n".join(
        (
            "Store:\n",
            table(
                ["engine", "reads", "writes outlive", "clients within one", "shortest lease", "notes"],
                (
                    (name, g.consistency, g.durability, g.scope, f"{g.min_lease_s:g} s", " ".join(g.notes))
                    for name, g in stores
                ),
            ),
            "Log:\n",
            table(
                ["engine", "records outlive", "clients within one", "notes"],
                ((name, g.durability, g.scope, " ".join(g.notes)) for name, g in logs),
            ),
            "Wire:\n",
            table(
                ["wire", "nodes within one", "largest body", "notes"],
                (
                    (name, g.scope, f"{g.max_body_bytes // 1024:,} KiB", " ".join(g.notes))
                    for name, g in wires
                ),
            ),
        )
    )


def settings_table() -> str:
    """Return every setting: its key, its option, its environment variable, and what it means."""
    defaults = NodeConfig()
    meanings = attribute_docs(NodeConfig)
    return table(
        ["key", "option", "environment variable", "default", "meaning"],
        (
            (
                f"`{name}`",
                f"`{option.flag}`",
                f"`{option.environment}`",
                f"`{getattr(defaults, name)}`" if getattr(defaults, name) != "" else "",
                meanings[name],
            )
            for name, option in OPTIONS.items()
        ),
    )


def attribute_docs(cls: type) -> dict[str, str]:
    """Return the docstring that stands below each attribute of a class, in one line."""
    [declared] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    docs = {}
    for attribute, below in itertools.pairwise(getattr(declared, "body", [])):
        match attribute, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


TABLES: dict[str, Callable[[], str]] = {
    "errors": error_table,
    "settings": settings_table,
    "guarantees": lambda: asyncio.run(guarantee_tables()),
}
_PLACE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def up_to_date(text: str) -> str:
    """Return `text` with its tables made anew."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def out_of_date() -> list[Path]:
    """Return the pages whose tables are not what the code says."""
    return [page for page in sorted(FOLDER.glob("*.md")) if up_to_date(page.read_text()) != page.read_text()]


def main() -> None:
    pages = out_of_date()
    if "--check" in sys.argv:
        sys.exit(f"out of date, run python docs/generate.py: {pages}" if pages else 0)
    for page in pages:
        page.write_text(up_to_date(page.read_text()))


if __name__ == "__main__":
    main()
