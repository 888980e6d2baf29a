"""Whoever uses the package sees the type of each public name, whichever checker they use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_each_public_name_has_a_type() -> None:
    binaries = Path(sys.executable).parent
    command = [binaries / "basedpyright", "--verifytypes", "coterie", "--ignoreexternal", "--outputjson"]
    # It looks for the package where the first `python` on the path has it.
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    symbols = json.loads(ran.stdout)["typeCompleteness"]["symbols"]
    # A package that it does not find has no symbols, and so none without a type.
    public = [symbol for symbol in symbols if symbol["isExported"]]
    assert len(public) > 4000, ran.stdout[:1000] + ran.stderr[:1000]
    unclear = [symbol["name"] for symbol in public if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]]
    assert not unclear, "\n".join(unclear)
