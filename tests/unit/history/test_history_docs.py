"""The examples of docs/history.md run."""

from __future__ import annotations

import re
from pathlib import Path

from coterie.history import MODELS, check, decode_history

TEXT = (Path(__file__).parents[3] / "docs" / "history.md").read_text(encoding="utf-8")


def test_the_python_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(example, "docs/history.md", "exec"), {})


def test_the_records_are_a_history() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert check(decode_history(example), "register").ok


def test_each_model_is_described() -> None:
    described = re.findall(r"^\| `([a-z]+)` \|", TEXT, re.MULTILINE)
    assert set(MODELS) <= set(described)
