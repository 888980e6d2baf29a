"""The systems that can be verified, by the name of the engine or its URL."""

from __future__ import annotations

from ... import lab
from ...errors import InvalidArgument
from ..config import VerifyConfig
from .laboratory import LabSystem
from .processes import ProcessSystem
from .running import RunningSystem
from .system import System, Victim

__all__ = ["ENGINES", "System", "Victim", "system_for"]

ENGINES = ("sqlite", *lab.ENGINES)
"""The engines that are started for a run; any other is named by its URL."""


def system_for(config: VerifyConfig) -> System:
    """Return the system that a run is about, which starts when it is entered.

    Raises `InvalidArgument` for a name that is none, `LabError` for a program that is not installed.
    """
    engine = config.engine
    if engine == "sqlite" or engine.startswith("sqlite:"):
        if config.raw:
            raise InvalidArgument("sqlite has no client that talks to a server", hint="leave --raw out")
        return ProcessSystem(engine, members=config.members, settings=config.settings)
    if ":" in engine:
        if config.settings:
            raise InvalidArgument(f"{engine} runs already, so its settings are what they are")
        return RunningSystem(engine)
    if engine not in ENGINES:
        raise InvalidArgument(
            f"there is no engine {engine!r}", hint=f"there are {', '.join(ENGINES)}, or give a URL"
        )
    cuts = {"partition", "failover"} & set(config.faults)
    return LabSystem(
        engine,
        members=config.members,
        network="proxy" if cuts else "direct",
        settings=config.settings,
    )
