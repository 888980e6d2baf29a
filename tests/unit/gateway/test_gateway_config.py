from __future__ import annotations

from typing import Any

import pytest

from coterie.errors import InvalidConfiguration
from coterie.gateway import GatewayConfig


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": 10, "max_timeout_s": 5}, "max_timeout_s"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"max_connections": 1 << 31}, "max_connections"),
        ({"linger_s": -1}, "linger_s"),
        ({"token": "short"}, "token"),
        ({"token": "with a space but long"}, "token"),
        ({"token": "naïve-but-long-enough"}, "token"),
        ({"address": "8000"}, "HOST:PORT"),
        ({"address": ":8000"}, "HOST:PORT"),
        ({"address": "::1:8000"}, "HOST:PORT"),
        ({"address": "localhost:65536"}, "HOST:PORT"),
        ({"address": "localhost:http"}, "HOST:PORT"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidConfiguration, match=named):
        GatewayConfig(**options)


def test_addresses_of_both_families() -> None:
    assert GatewayConfig(address="localhost:0").host_and_port() == ("localhost", 0)
    assert GatewayConfig(address="[::1]:8000").host_and_port() == ("::1", 8000)
