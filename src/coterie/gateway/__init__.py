"""Services as HTTP: JSON over POST, problem details, OpenAPI, probes and metrics.

Importing this package imports no web framework and no server; uvicorn is imported when an
`HttpServer` starts.
"""

from .app import Gateway, create_asgi
from .backend import Backend, DeclaredErrors
from .config import GatewayConfig
from .problems import Problem
from .server import HttpServer

__all__ = [
    "Backend",
    "DeclaredErrors",
    "Gateway",
    "GatewayConfig",
    "HttpServer",
    "Problem",
    "create_asgi",
]
