"""Which networks this machine can have."""

from __future__ import annotations

import pytest

from coterie.lab import NetworkKind
from coterie.lab._namespaces import why_not


@pytest.fixture(params=["proxy", "namespaces"])
def network(request: pytest.FixtureRequest) -> NetworkKind:
    if request.param == "namespaces" and (reason := why_not()) is not None:
        pytest.skip(f"no network namespaces: {reason}")
    return request.param
