from __future__ import annotations

from coterie.ports import Consistency, Durability, Scope


def test_guarantees_are_ordered_from_the_weakest() -> None:
    assert Consistency.EVENTUAL < Consistency.SEQUENTIAL < Consistency.LINEARIZABLE
    assert Durability.NONE < Durability.PROCESS_CRASH < Durability.POWER_LOSS < Durability.MACHINE_LOSS
    assert Scope.PROCESS < Scope.MACHINE < Scope.NETWORK


def test_guarantees_read_well_in_a_message() -> None:
    assert f"{Durability.POWER_LOSS} {Consistency.LINEARIZABLE}" == "power loss linearizable"
