"""Processes for each test, and two nodes that tests share which do not end them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from process_harness import SAMPLE, Coterie

Start = Callable[..., Coterie]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start commands in the test's folder; they end with the test."""
    started: list[Coterie] = []

    def start(*words: str, environment: dict[str, str] | None = None) -> Coterie:
        started.append(Coterie(words, tmp_path, environment))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture
def start_node(start: Start) -> Callable[..., Coterie]:
    """Start a node of the sample and return when it is ready: its address is in `events`."""

    def start_node(*words: str, **options: Any) -> Coterie:
        node = start("run", str(SAMPLE), "--http", "127.0.0.1:0", "--json", *words, **options)
        node.wait_event("ready")
        return node

    return start_node


@dataclass
class Shared:
    """Two nodes that run for all tests which leave them running."""

    folder: Path
    up: Coterie
    urls: list[str]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    up = Coterie(("up", str(SAMPLE), "--nodes", "2", "--http", "127.0.0.1:0", "--json"), folder)
    try:
        urls = {event["node"]: event["http"] for event in (up.wait_event("ready") for _ in range(2))}
        yield Shared(folder, up, [urls["sample-1"], urls["sample-2"]])
    finally:
        up.close()
