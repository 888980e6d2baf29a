"""Reads a request: its headers, its body within bounds, and the arguments of the call."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from ..codec import type_name
from ..context import Metadata
from ..errors import InvalidArgument, TooLarge
from ..resilience.keys import MAX_KEY
from ..services.spec import MethodSpec
from .config import GatewayConfig
from .problems import ArgumentFault, BadArguments, HttpError, argument_fault

__all__ = [
    "Disconnected",
    "Headers",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "arguments",
    "check_head",
    "metadata",
    "read_body",
    "signature",
    "timeout",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]

_DISCARD_BODIES = 8
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Disconnected(Exception):
    """The client left before it had its answer."""


async def read_body(receive: Receive, headers: Headers, max_bytes: int) -> bytes:
    """Return the whole body; raise `TooLarge` as soon as it is known to be larger than `max_bytes`.

    The bytes are counted as they come: a chunked body announces no length, and a length can lie.
    """
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > max_bytes and b"expect" in headers:
        raise _too_large(max_bytes)  # The client asked before it sent anything.
    message = await receive()
    if message["type"] != "http.request":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= max_bytes:
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        body = message.get("body", b"")
        size += len(body)
        if size <= max_bytes:
            parts.append(body)
        else:
            # Reading on a while lets a client that sends before it listens get the answer, where
            # closing on unread bytes would reset the connection.
            parts.clear()
            if size > max_bytes * _DISCARD_BODIES:
                break
    if size > max_bytes:
        raise _too_large(max_bytes)
    return b"".join(parts)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body has more than {max_bytes} bytes, which is the limit")


def arguments(method: MethodSpec, headers: Headers, body: bytes) -> Any:
    """Return the typed arguments that `body` holds; raise what makes a clear 400 or 415 otherwise.

    An empty body stands for no arguments.
    """
    if body:
        check_content_type(headers.get(b"content-type", b""))
    try:
        decoded = method.arguments_json.decode_json(body or b"{}")
        if body:
            _SCANNER.raw_decode(body.decode().lstrip())  # msgspec saw that nothing follows.
    except InvalidArgument as error:
        raise _bad_arguments(method, error) from error
    except RecursionError:
        raise _bad_body("the JSON is nested too deeply") from None
    except (_DuplicateKey, _BigNumber) as error:
        raise _bad_body(str(error)) from None
    except ValueError as error:
        raise _bad_body(f"the body is not valid JSON: {error}") from None
    return decoded


def check_content_type(value: bytes) -> None:
    """Raise a 415 unless `value` is JSON in UTF-8.

    Without this, a form on any web page could make a browser call a local node.
    """
    if value == b"application/json":
        return
    media_type, _, parameters = value.decode("latin-1").lower().partition(";")
    media_type = media_type.strip()
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters)
    json_type = media_type == "application/json" or re.fullmatch(r"application/[\w.-]+\+json", media_type)
    if not json_type or (charset and charset[1] not in {"utf-8", "utf8"}):
        raise HttpError(
            415,
            f"the body must be application/json in UTF-8, not {value.decode('latin-1')!r}"
            if value
            else "the body has no content type",
            hint="send the header `Content-Type: application/json`",
            headers=[(b"accept", b"application/json")],
        )


class _DuplicateKey(Exception):
    pass


class _BigNumber(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateKey(f"the key {name[:100]!r} stands twice in one object")
            seen.add(name)


def _integer(text: str) -> None:
    if len(text) > 18 and not -(1 << 63) <= int(text[:21]) < 1 << 64:
        raise _BigNumber(f"the number {text[:24]}… does not fit into 64 bits")


# msgspec takes the last of two equal keys, and whole numbers that cannot cross the wire. A scan
# after it finds both; it runs in C and builds no objects of its own.
_SCANNER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_integer, parse_float=len)


def _bad_body(message: str) -> BadArguments:
    return BadArguments(message, faults=(ArgumentFault(parameter="", pointer="#", message=message),))


def _bad_arguments(method: MethodSpec, error: InvalidArgument) -> BadArguments:
    cause = error.__cause__
    hint = f"the body is a JSON object: {signature(method)}"
    if isinstance(cause, msgspec.ValidationError):
        fault = argument_fault(method, cause)
        where = f" (at {fault.pointer})" if fault.pointer.count("/") > 1 else ""
        about = f"{fault.parameter}: " if fault.parameter and fault.parameter not in fault.message else ""
        expected = (
            f", which is a {fault.expected}" if "is missing" in fault.message and fault.expected else ""
        )
        return BadArguments(
            f"{method.target}: {about}{fault.message}{expected}{where}", hint=hint, faults=(fault,)
        )
    return _bad_body(f"the body is not valid JSON: {cause or error}")


def signature(method: MethodSpec) -> str:
    """Return the parameters of a method as a reader would write them."""
    shown = ", ".join(
        f'"{p.name}": {type_name(p.type)}' + ("" if p.required else f" = {p.default!r}")
        for p in method.parameters
    )
    return "{" + shown + "}"


def timeout(headers: Headers, method: MethodSpec, config: GatewayConfig) -> float:
    """Return the seconds that a call may take, from `Coterie-Timeout` or the default."""
    value = headers.get(b"coterie-timeout")
    limit = config.stream_timeout_s if method.streaming else config.max_timeout_s
    if value is None:
        return limit if method.streaming else config.timeout_s
    text = value.decode("latin-1").strip()
    if not _SECONDS.fullmatch(text) or not 0 < float(text) <= limit:
        raise HttpError(
            400,
            f"Coterie-Timeout must be a number of seconds above 0 and at most {limit:g}, not {text[:40]!r}",
            hint="for instance `Coterie-Timeout: 2.5`",
        )
    return float(text)


def metadata(headers: Headers) -> Metadata | None:
    """Return what travels with the call: idempotency key and trace context, or None for neither.

    A malformed trace context is ignored, as W3C Trace Context asks; a malformed key is a 400, because
    a call that the client believes to be protected must not go through without.
    """
    key = headers.get(b"idempotency-key")
    trace = headers.get(b"traceparent")
    if key is None and trace is None:
        return None
    text = None
    if key is not None:
        text = key.decode("latin-1").strip()
        # The draft of the header makes it a structured string, in quotes; most clients leave them out.
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1]
        if not text or len(text) > MAX_KEY or not (text.isascii() and text.isprintable()):
            raise HttpError(
                400,
                f"Idempotency-Key must have 1 to {MAX_KEY} printable ASCII characters",
                hint="a UUID does well",
            )
    valid = trace is not None and _TRACEPARENT.fullmatch(trace) is not None
    parent = trace.decode() if trace is not None and valid else None
    return Metadata(traceparent=parent, idempotency_key=text) if parent or text else None


def check_head(scope: Scope, max_bytes: int) -> None:
    """Raise a 431 when the target and the headers together are larger than `max_bytes`."""
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    size += sum(len(name) + len(value) for name, value in scope["headers"])  # Each one, also of equal names.
    if size > max_bytes:
        raise HttpError(
            431,
            f"the target and the headers have {size} bytes; the limit is {max_bytes}",
            hint="large data belongs into the body",
        )
