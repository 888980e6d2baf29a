"""Calls that NATS servers carry, for nodes that do not reach each other, beside the plain client's requests.

    python -m benchmarks.rpc_nats [--quick] [--json]

The same call as in `benchmarks.rpc`, through one server that `coterie.lab` starts. `coterie, NATS` is a node
and a caller with `wire = "nats://..."`; `coterie` is the same over sockets, for what the way through a server
costs. `nats-py` is its `request` and a subscription that responds: no names of methods, no deadline that the
other end knows of, no cancelling, no declared errors, bodies of a megabyte at most. The server's CPU is not
counted.
"""

from __future__ import annotations

import asyncio
import sys
from tempfile import TemporaryDirectory

from coterie import lab

from ._harness import Goal, Row, loop_factory, main
from .rpc import compare_programs

__all__ = ["TITLE", "run"]

TITLE = "Calls through a NATS server: a small dataclass in, a small dataclass back"
GOALS = (Goal("coterie, NATS", of="nats-py", at_least=1),)


def run(quick: bool = False) -> list[Row]:
    """Measure calls a second, and the CPU time of a call at both ends."""
    with asyncio.Runner(loop_factory=loop_factory) as runner, TemporaryDirectory() as folder:
        cluster = lab.start("nats")
        runner.run(cluster.__aenter__())
        try:
            url = cluster.url
            places = {"coterie, NATS": url, "nats-py": url, "coterie": folder}
            return compare_programs(places, beside="nats-py", goals=GOALS, quick=quick)
        finally:
            runner.run(cluster.__aexit__(None, None, None))


if __name__ == "__main__":
    main(TITLE, run, sys.argv[1:])
