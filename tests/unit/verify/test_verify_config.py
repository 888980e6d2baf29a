"""What cannot be asked for is refused with what can."""

from __future__ import annotations

from typing import Any

import pytest

from coterie.errors import InvalidArgument
from coterie.verify import VerifyConfig, system_for
from coterie.verify.targets.raw import RAW, open_raw


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"members": 2}, "1 or 3, not 2"),
        ({"workloads": ("sett",)}, "no workload 'sett'"),
        ({"workloads": ()}, "no workload is asked for"),
        ({"workloads": ("set", "set")}, "named twice"),
        ({"faults": ("flood",)}, "no class of faults 'flood'"),
        ({"time_s": 0.1}, "time_s"),
        ({"clients": 0}, "clients"),
        ({"rate_per_s": 0.0}, "rate_per_s"),
        ({"recovery_s": 0.0}, "recovery_s"),
        ({"isolation": "chaos"}, "isolation"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        VerifyConfig(engine="sqlite", **options)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (VerifyConfig(engine="oracle"), "no engine 'oracle'.*sqlite, nats"),
        (VerifyConfig(engine="sqlite", raw=True), "no client"),
        (VerifyConfig(engine="redis://h", settings={"save": ""}), "runs already"),
    ],
)
def test_what_there_is_no_system_for_is_refused(config: VerifyConfig, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        system_for(config)


def test_raw_needs_a_client_that_is_known() -> None:
    with pytest.raises(InvalidArgument, match=f"knows {', '.join(RAW)}"):
        open_raw(VerifyConfig(engine="memory:", raw=True))
