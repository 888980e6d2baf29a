"""The scenarios of the unit tests are run here on real engines."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "unit" / "coordination"))
