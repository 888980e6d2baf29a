"""Settings: where they come from, which wins, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coterie.errors import InvalidConfiguration
from coterie.node import NodeConfig, resolve


def sources(settings: list[Any]) -> dict[str, str]:
    return {setting.option.name: setting.source for setting in settings}


def test_the_command_line_beats_the_environment_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "coterie.toml").write_text('name = "file"\nhttp = "127.0.0.1:1"\nlease_s = 9\n')
    environ = {"COTERIE_NAME": "environment", "COTERIE_HTTP": "127.0.0.1:2"}
    config, settings = resolve({"name": "line", "engine": None}, environ, tmp_path)
    assert (config.name, config.http, config.lease_s) == ("line", "127.0.0.1:2", 9.0)
    found = sources(settings)
    assert found["name"] == "command line (--name)"
    assert found["http"] == "environment (COTERIE_HTTP)"
    assert found["lease_s"] == str(tmp_path / "coterie.toml")
    assert found["listen"] == "default"


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    config, _ = resolve({}, {}, tmp_path)
    assert config == NodeConfig()
    assert config.engine_url("shop") == "sqlite:///.coterie/shop.db"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nmae = 'x'", "unknown key 'nmae'.*did you mean 'name'"),
        ("name = 3", "name must be text, not 3"),
        ("lease_s = 'soon'", "lease_s must be a number, not 'soon'"),
        ("name = ", "cannot be read"),
        ("http = 'everywhere'", "http must be HOST:PORT, or off.*http from .*coterie.toml"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "coterie.toml").write_text(content)
    with pytest.raises(InvalidConfiguration, match=message):
        resolve({}, {}, tmp_path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"listen": "localhost"}, "listen must be HOST:PORT"),
        ({"listen": "h:99999"}, "listen must be"),
        ({"http": "unix:/x"}, "http must be"),
        ({"engine": "sqlite"}, "engine must be a URL"),
        ({"name": "a b"}, "no space"),
        ({"lease_s": 0.01}, "lease_s must be between"),
        ({"gossip_s": 0.001}, "gossip_s must be between"),
        ({"drain_s": -1}, "drain_s must be between"),
        ({"cluster_key": "short"}, "at least 16"),
    ],
)
def test_values_that_cannot_be_right_are_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        NodeConfig(**bad)
