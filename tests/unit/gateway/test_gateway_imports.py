"""A node pays for the server when it starts one, and for metrics and schemas when they are asked for."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_gateway_imports_no_server() -> None:
    code = "import sys, coterie.gateway; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("uvicorn", "starlette", "prometheus_client", "pydantic", "coterie.gateway.openapi"):
        assert heavy not in loaded.stdout.split()
