"""TLS over simulated transports: asyncio's own protocol and real OpenSSL, in memory.

Keys and nonces are OpenSSL's own and differ in every run, so the trace holds only the sizes of what
is encrypted. Certificates with RSA or Ed25519 keys keep even those the same in every run; signatures
of ECDSA vary by a byte or two.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from dataclasses import dataclass
from typing import Any

from ..loop import VirtualLoop
from .transport import StreamTransport

__all__ = ["TlsOptions", "upgrade", "wrap"]


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What `create_connection`, `create_server` and `start_tls` say about TLS."""

    context: ssl.SSLContext
    server_side: bool
    server_hostname: str | None = None
    handshake_timeout_s: float | None = None
    shutdown_timeout_s: float | None = None

    @classmethod
    def of(
        cls,
        context: ssl.SSLContext | bool | None,
        *,
        server_side: bool,
        host: str | None = None,
        server_hostname: str | None = None,
        handshake_timeout_s: float | None = None,
        shutdown_timeout_s: float | None = None,
    ) -> TlsOptions | None:
        """Return the options, or None for no TLS; the errors are those of asyncio."""
        if not context:
            for name, value in (
                ("server_hostname", server_hostname),
                ("ssl_handshake_timeout", handshake_timeout_s),
                ("ssl_shutdown_timeout", shutdown_timeout_s),
            ):
                if value is not None:
                    raise ValueError(f"{name} is only meaningful with ssl")
            return None
        if context is True:
            context = ssl.create_default_context()
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"ssl argument must be an SSLContext, not {context!r}")
        if not server_side and server_hostname is None:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = host
        return cls(context, server_side, server_hostname, handshake_timeout_s, shutdown_timeout_s)


def wrap(
    loop: VirtualLoop,
    protocol: asyncio.BaseProtocol,
    options: TlsOptions,
    waiter: asyncio.Future[None] | None,
    *,
    call_connection_made: bool = True,
) -> Any:
    """Return a protocol for the raw transport that speaks TLS and carries `protocol`."""
    make: Any = sslproto.SSLProtocol  # typeshed is narrower than what asyncio's own loops pass
    return make(
        loop,
        protocol,
        options.context,
        waiter,
        options.server_side,
        options.server_hostname,
        call_connection_made,
        ssl_handshake_timeout=options.handshake_timeout_s,
        ssl_shutdown_timeout=options.shutdown_timeout_s,
    )


async def upgrade(
    loop: VirtualLoop, transport: asyncio.BaseTransport, protocol: asyncio.BaseProtocol, options: TlsOptions
) -> asyncio.Transport:
    """Begin TLS in mid-stream and return the transport that `protocol` uses from here on."""
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    waiter = loop.create_future()
    tls = wrap(loop, protocol, options, waiter, call_connection_made=False)
    # Nothing may be read between here and `connection_made`.
    raw: Any = transport
    raw.pause_reading()
    raw.set_protocol(tls)
    if isinstance(transport, StreamTransport):
        transport.conceal()
    begin = loop.call_soon(tls.connection_made, transport)
    resume = loop.call_soon(raw.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        begin.cancel()
        resume.cancel()
        raise
    upgraded: asyncio.Transport = tls._app_transport  # noqa: SLF001 - where asyncio's loops find it too
    return upgraded
