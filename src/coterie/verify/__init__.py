"""Puts real engines under load and faults, records what clients saw, and holds it against what is promised.

report = await verify(VerifyConfig(engine="etcd", faults=("kill", "pause"), time_s=30, seed=7))
print(report.exit_code, [str(j.standing) for j in report.judgements])
"""

from .config import VerifyConfig
from .judge import Judgement, Standing
from .plan import CLASSES, DEFAULT_CLASSES, Fault, plan_faults
from .report import Report
from .run import Run
from .systems import ENGINES, System, system_for
from .verify import verify
from .workloads import WORKLOADS

__all__ = [
    "CLASSES",
    "DEFAULT_CLASSES",
    "ENGINES",
    "WORKLOADS",
    "Fault",
    "Judgement",
    "Report",
    "Run",
    "Standing",
    "System",
    "VerifyConfig",
    "plan_faults",
    "system_for",
    "verify",
]
