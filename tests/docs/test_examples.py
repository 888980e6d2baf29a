"""Every example in the docs runs.

Each block of Python in README.md and docs/*.md is run as it stands: the blocks of one page one after
another in one namespace, in an empty folder. A block that begins with `# name.py` is saved there under that
name as well. One that cannot be run has a comment above it that says why: `<!-- not run: reason -->`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)\n")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->\s*$")


@dataclass(frozen=True)
class Example:
    """A block of Python, and the line of the page that it begins at."""

    source: str
    line: int


def examples(text: str) -> list[Example]:
    """Return the blocks of a page that are to be run."""
    return [
        Example(found[1], text.count("\n", 0, found.start(1)))
        for found in BLOCK.finditer(text)
        if not NOT_RUN.search(text[: found.start()])
    ]


def run(page: Path, blocks: list[Example]) -> None:
    """Run `blocks` as one module. A traceback leads to the line of the page."""
    module = ModuleType(f"examples_of_{page.stem.replace('-', '_')}")
    sys.modules[module.__name__] = module  # Where dataclasses and type hints look names up.
    try:
        for block in blocks:
            if named := FILE.match(block.source):
                Path(named[1]).write_text(block.source)
            code = compile("\n" * block.line + block.source, str(page), "exec", dont_inherit=True)
            exec(code, vars(module))
    finally:
        del sys.modules[module.__name__]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page.read_text())], ids=name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(page, examples(page.read_text()))


def test_a_wrong_example_is_found(tmp_path: Path) -> None:
    left_out = "<!-- not run: it is wrong -->\n```python\nb\n```"
    text = f"# Title\n\n```python\na = 1\n```\n\n{left_out}\n\n```python\nassert a == 2\n```\n"
    blocks = examples(text)
    assert [block.source for block in blocks] == ["a = 1\n", "assert a == 2\n"]
    with pytest.raises(AssertionError) as caught:
        run(tmp_path / "page.md", blocks)
    assert caught.tb.tb_next is not None
    assert caught.traceback[-1].lineno + 1 == text.split("\n").index("assert a == 2") + 1
