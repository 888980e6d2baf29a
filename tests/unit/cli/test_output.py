"""Tables and colour, as a terminal gets them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from coterie.cli.up import node_config
from coterie.errors import InvalidConfiguration
from coterie.node import NodeConfig
from coterie.node.config import mask_url

COTERIE = (sys.executable, "-m", "coterie")
PROGRAM = "from coterie import App\napp = App('sample')\nnotes = app.map('notes', str)\n"
SCRIPT = """
from coterie.cli.output import fail, print_table
from coterie.errors import NotFound
print_table(("key", "value"), [("[red]a[/]", ("yes", "green")), ("b" * 300, "c")])
fail(NotFound("gone", hint="look elsewhere"), as_json=False)
"""
WIDE = """
from coterie.cli.output import print_table
columns = ("name", "place", "third", "fourth", "last")
print_table(columns, [("alpha", "x" * 60, "", "", "[z]"), ("beta", "", ("w", "green"), "", "")])
"""


def on_a_terminal(command: Sequence[str], **environment: str) -> str:
    """Run a command on a terminal of 80 columns and return all that it shows."""
    outer, inner = pty.openpty()
    inherited = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=inner,
        stderr=inner,
        env={**inherited, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(inner)
    shown = b""
    while True:
        try:
            chunk = os.read(outer, 65536)
        except OSError:  # Linux says EIO when the other side is closed.
            break
        if not chunk:
            break
        shown += chunk
    os.close(outer)
    process.wait(30)
    return shown.decode()


def test_a_terminal_gets_colours_and_a_table_that_fits() -> None:
    shown = on_a_terminal((sys.executable, "-c", SCRIPT))
    assert "\x1b[32myes" in shown
    assert "\x1b[31m\x1b[1merror: " in shown
    assert "[red]a[/]" in shown
    assert shown.count("b") >= 300
    assert "─" in shown


@pytest.mark.parametrize("value", ["1", "yes"])
def test_no_color_is_respected_on_a_terminal(value: str) -> None:
    shown = on_a_terminal((sys.executable, "-c", SCRIPT), NO_COLOR=value)
    assert "error: gone" in shown
    assert "b" * 300 + "  c" in shown
    assert "\x1b" not in shown


def test_a_row_of_many_columns_becomes_a_block_where_a_terminal_is_narrow() -> None:
    shown = on_a_terminal((sys.executable, "-c", WIDE))
    lines = re.sub("\x1b\\[[0-9;]*m", "", shown).splitlines()
    assert lines == [
        "name    alpha",
        "place   " + "x" * 60,
        "last    [z]",
        "",
        "name    beta",
        "third   w",
        "",
    ]
    assert "\x1b[32mw" in shown
    wide = on_a_terminal((sys.executable, "-c", WIDE), COLUMNS="120")
    assert "─" in wide


def test_without_a_terminal_there_are_no_escapes_at_all() -> None:
    done = subprocess.run((sys.executable, "-c", SCRIPT), capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert "b" * 300 + "  c" in done.stdout


def test_each_node_of_up_has_a_name_and_addresses_of_its_own() -> None:
    config = NodeConfig(http="127.0.0.1:8000", listen="127.0.0.1:9000")
    nodes = [node_config("shop", config, index) for index in range(3)]
    assert [node.name for node in nodes] == ["shop-1", "shop-2", "shop-3"]
    assert [node.http for node in nodes] == [f"127.0.0.1:{port}" for port in (8000, 8001, 8002)]
    assert [node.listen for node in nodes] == [f"127.0.0.1:{port}" for port in (9000, 9001, 9002)]
    config = NodeConfig(http="off", listen="unix:/run/shop.sock")
    nodes = [node_config("shop", config, index) for index in range(2)]
    assert [node.http for node in nodes] == ["off", "off"]
    assert [node.listen for node in nodes] == ["unix:/run/shop.sock", "unix:/run/shop.sock-2"]
    assert node_config("shop", NodeConfig(http="127.0.0.1:0"), 2).http == "127.0.0.1:0"
    with pytest.raises(InvalidConfiguration, match="65536"):
        node_config("shop", NodeConfig(http="127.0.0.1:65535"), 1)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://user:secret@a:4222,b", "nats://user:(secret)@a:4222,b"),
        ("postgres://:pw@h/db", "postgres://:(secret)@h/db"),
        ("nats://user@h", "nats://user@h"),
        ("sqlite:////var/a:b@c.db", "sqlite:////var/a:b@c.db"),
        ("127.0.0.1:8000", "127.0.0.1:8000"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(PROGRAM)
    (tmp_path / "coterie.toml").write_text('cluster_key = "cluster-key-in-file"\n')
    environment = {**os.environ, "COTERIE_HTTP_TOKEN": "token-in-environment"}
    for extra in ((), ("--json",)):
        done = subprocess.run(
            (*COTERIE, "config", "sample.py", "--engine", "nats://me:hidden@h", *extra),
            capture_output=True, text=True, check=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert done.stdout.count("(secret)") == 3
        for secret in ("cluster-key-in-file", "token-in-environment", "hidden"):
            assert secret not in done.stdout + done.stderr
