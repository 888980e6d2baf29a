"""Hosts of their own on one machine: a network namespace each, joined by a bridge that can be cut.

All are nameless and reached through descriptors of the keeper, so that they are gone when it and the
members are, however they end. Needs root, `ip` (iproute2) and `nft` (nftables); no address is added to
the machine's own network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from . import _linux

__all__ = ["Namespaces", "why_not"]

_SUBNET = "10.83.0"
_TIMEOUT_S = 10


def why_not() -> str | None:
    """Return what is missing for network namespaces, or None."""
    missing = [program for program in ("ip", "nft") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} not found: apt-get install iproute2 nftables"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "it needs root"
    try:
        os.close(_linux.new_network())
    except (OSError, AttributeError) as error:
        return f"this machine refuses new namespaces: {error}"
    return None


class Namespaces:
    """The namespaces of some hosts, and the bridge between them."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hub = _linux.new_network()
        self._of = {host: _linux.new_network() for host in hosts}
        self._ports = {host: f"port{number}" for number, host in enumerate(hosts)}
        self._addresses = {host: f"{_SUBNET}.{number}" for number, host in enumerate(hosts, 1)}
        self._build()

    def _build(self) -> None:
        lines = ["link set lo up", "link add bridge type bridge", "link set bridge up"]
        for host, port in self._ports.items():
            where = f"/proc/{os.getpid()}/fd/{self._of[host]}"
            lines.append(f"link add {port} type veth peer name eth0 netns {where}")
            lines.append(f"link set {port} master bridge up")
        self._run(self._hub, ["ip", "-batch", "-"], lines)
        for host, namespace in self._of.items():
            address = f"addr add {self._addresses[host]}/24 dev eth0"
            self._run(namespace, ["ip", "-batch", "-"], ["link set lo up", address, "link set eth0 up"])

    def _run(self, namespace: int, command: list[str], lines: Iterable[str]) -> None:
        text = "\n".join(lines) + "\n"
        with _linux.entered(namespace):
            done = subprocess.run(  # noqa: S603 - constant commands, names of our own
                command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        if done.returncode != 0:
            raise OSError(f"{' '.join(command)} failed: {done.stderr.strip()}")

    def address(self, host: str) -> str:
        """Return the IP address of `host`."""
        return self._addresses[host]

    def of(self, host: str | None) -> int | None:
        """Return the descriptor of the namespace of `host`; None for the machine's own."""
        return None if host is None else self._of[host]

    def apply(self, cuts: Iterable[tuple[str, str]], losses: dict[tuple[str, str], float]) -> None:
        """Drop all or some of the IP packets from the first to the second host of each pair.

        The change is atomic. ARP passes, as it does across a router that drops.
        """
        lines = ["table bridge lab {}", "delete table bridge lab", "table bridge lab {", "chain links {"]
        lines.append("type filter hook forward priority 0; policy accept;")
        for source, target in cuts:
            lines.append(f"{self._match(source, target)} drop")
        for (source, target), loss in losses.items():
            threshold = round(loss * 10_000)
            lines.append(f"{self._match(source, target)} numgen random mod 10000 < {threshold} drop")
        self._run(self._hub, ["nft", "-f", "-"], [*lines, "}", "}"])

    def _match(self, source: str, target: str) -> str:
        return f'iifname "{self._ports[source]}" oifname "{self._ports[target]}" ether type ip'
