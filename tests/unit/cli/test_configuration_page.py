"""docs/configuration.md says what the code does; its table is made by docs/generate.py."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from coterie.cli.main import _cli
from coterie.node import NodeConfig, resolve
from coterie.node.config import OPTIONS

PAGE = (Path(__file__).parents[3] / "docs/configuration.md").read_text()
CLUSTER = {"engine", "store", "log", "wire", "data", "cluster_key"}
TAKES = {
    "run": set(OPTIONS),
    "config": set(OPTIONS),
    "up": set(OPTIONS) - {"name"},
    "call": CLUSTER,
    "status": CLUSTER,
    "map get": CLUSTER,
    "map put": CLUSTER,
    "map delete": CLUSTER,
    "map scan": CLUSTER,
}


@pytest.mark.parametrize("command", TAKES)
def test_each_command_takes_the_settings_that_the_page_says(command: str) -> None:
    found: click.Command | None = _cli
    for word in command.split():
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word)
    assert found is not None
    flags = {flag for parameter in found.params for flag in parameter.opts}
    taken = {name for name, option in OPTIONS.items() if option.flag in flags}
    assert taken == TAKES[command]
    for name in CLUSTER:
        assert f"`{OPTIONS[name].flag}`" in PAGE


def test_each_setting_has_a_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \| `(COTERIE_\w+)` \|", PAGE, re.MULTILINE)
    assert rows == [(name, option.flag, option.environment) for name, option in OPTIONS.items()]


def test_the_sample_file_is_right(tmp_path: Path) -> None:
    [sample] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "coterie.toml").write_text(sample)
    config, settings = resolve({}, {}, tmp_path)
    given = tomllib.loads(sample)
    assert {name: getattr(config, name) for name in given} == given
    assert {s.option.name for s in settings if s.source.endswith("coterie.toml")} == set(given) - {
        "policy",
        "admission",
    }


def test_the_sample_program_is_right() -> None:
    [sample] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(sample, "configuration.md", "exec"), names)
    assert isinstance(names["config"], NodeConfig)


def test_each_setting_can_be_given_in_each_place(tmp_path: Path) -> None:
    values = {
        "name": "n", "engine": "sqlite:///a.db", "store": "sqlite:///b.db", "log": "sqlite:///c.db",
        "wire": "nats://d:4222",
        "listen": "127.0.0.1:1", "http": "off", "data": "d", "cluster_key": "k" * 16, "http_token": "t",
        "lease_s": 7.0, "gossip_s": 0.25, "drain_s": 8.0, "replies_s": 9.0,
        "zone": "east", "weight": 2.0,
    }  # fmt: skip
    assert set(values) == set(OPTIONS)
    assert not any(getattr(NodeConfig(), name) == value for name, value in values.items())
    environ = {OPTIONS[name].environment: str(value) for name, value in values.items()}
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    (tmp_path / "file").mkdir()
    (tmp_path / "file/coterie.toml").write_text("\n".join(lines))
    for given in (
        resolve(values, {}, tmp_path),
        resolve({}, environ, tmp_path),
        resolve({}, {}, tmp_path / "file"),
    ):
        assert given[0] == NodeConfig(**values)  # type: ignore[arg-type]
