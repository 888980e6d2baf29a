"""The NATS store does what the model does. Shorter runs than in memory: each step is a round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from store_machine import SETTINGS, StoreMachine

from coterie import lab
from coterie.engines.nats import NatsEngine, open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.ports import Store


@pytest.fixture
def url() -> Iterator[str]:
    cluster = lab.start("nats")
    with asyncio.Runner() as runner:
        runner.run(cluster.__aenter__())
        yield cluster.url
        runner.run(cluster.__aexit__(None, None, None))


@pytest.mark.slow
def test_nats_does_what_the_model_does(url: str) -> None:
    numbers = count()

    class NatsMachine(StoreMachine):
        """A store of a prefix of its own; its time is the client's, so all leases outlive the run."""

        shortest_lease_s = 600.0
        engine: NatsEngine
        # A commit that was cancelled may be applied after a later one: nothing settles it.
        cancel = None

        async def open(self) -> Store:
            address = f"{url}?prefix=machine{next(numbers)}"
            self.engine = await open_engine(address, clock=SystemClock(), entropy=SystemEntropy())
            return self.engine.store

        def teardown(self) -> None:
            self.run(self.engine.close())
            super().teardown()

    run_state_machine_as_test(
        NatsMachine, settings=settings(SETTINGS, max_examples=20, stateful_step_count=30)
    )
