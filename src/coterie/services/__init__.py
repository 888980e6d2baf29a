"""Services: classes whose public async methods can be called from anywhere in the cluster.

spec = describe(Shop)                                  # what the class declares
dispatcher = Dispatcher(...)                           # answers calls on a node that hosts it
await wire.listen(address, dispatcher.handlers())
shop = make_client(spec)                               # typed as Shop; works wherever `current()` does
bindings[spec] = ServiceBinding(...)                   # how this node reaches the service
await shop.buy(order)                                  # in process if it is hosted here, else by the wire
"""

from ._plans import Plans
from ._quorum import Quorum, Replicated
from .admission import Admissions, MethodAdmission, Sourced, limit, priority
from .binding import CallConfig, Channels, Directory, Endpoint, ServiceBinding
from .client import ClientSpec, make_client, quorum
from .dispatch import Dispatcher, MethodStatistics
from .ledger import ReplyLedger
from .policies import Effective, Policies, idempotent, policy
from .registry import ErrorRegistry
from .spec import Admission, MethodSpec, ParameterSpec, ServiceSpec, admission_of, describe

__all__ = [
    "Admission",
    "Admissions",
    "CallConfig",
    "Channels",
    "ClientSpec",
    "Directory",
    "Dispatcher",
    "Effective",
    "Endpoint",
    "ErrorRegistry",
    "MethodAdmission",
    "MethodSpec",
    "MethodStatistics",
    "ParameterSpec",
    "Plans",
    "Policies",
    "Quorum",
    "Replicated",
    "ReplyLedger",
    "ServiceBinding",
    "ServiceSpec",
    "Sourced",
    "admission_of",
    "describe",
    "idempotent",
    "limit",
    "make_client",
    "policy",
    "priority",
    "quorum",
]
