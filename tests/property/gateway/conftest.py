"""The sample program of the integration tests, under generated requests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "integration" / "gateway"))
