"""The services as an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, cast

import msgspec

from ..codec import encode_hook
from ..resilience.keys import MAX_KEY
from ..services.spec import MethodSpec, ParameterSpec
from .backend import Backend, DeclaredErrors
from .config import GatewayConfig
from .problems import ArgumentFault, Problem

__all__ = ["openapi"]

Schema = dict[str, Any]

_REF = "#/components/schemas/{name}"
_STATUSES: dict[int, str] = {
    400: "The arguments, or a header of the request, are wrong; `errors` says which.",
    409: "What the call expected is no longer so.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The idempotency key was used with other arguments.",
    429: "A rate is used up; `Retry-After` says for how long.",
    500: "The service failed with an error that it does not declare.",
    503: "The node cannot answer now, or not for sure.",
    504: "The deadline is over. The call may have had its effect.",
}


def openapi(backend: Backend, config: GatewayConfig, root: str) -> dict[str, Any]:
    """Return the document, as JSON decodes it; `root` is the path under which the gateway is mounted."""
    methods = [method for service in backend.services.values() for method in service.methods.values()]
    schemas = _Schemas(methods)
    responses = _error_responses(backend.errors, secured=bool(config.token))
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": backend.app_name,
            "version": "1",
            "description": f"The services of {backend.app_name}. Every error is a problem (RFC 9457).",
        },
        "servers": [{"url": root or "/"}],
        "tags": [
            {"name": service.name, "description": service.doc} if service.doc else {"name": service.name}
            for service in backend.services.values()
        ],
        "paths": {
            f"/{method.service}/{method.name}": {"post": _operation(method, schemas, responses)}
            for method in methods
        }
        | _PROBES,
        "components": {
            "schemas": schemas.components,
            "responses": responses,
            "parameters": _parameters(config),
        },
    }
    if config.token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    # As JSON has it: the defaults in schemas are values of any type.
    return cast("dict[str, Any]", _as_json(document))


def _as_json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=encode_hook))


def _operation(method: MethodSpec, schemas: _Schemas, responses: Mapping[str, Any]) -> dict[str, Any]:
    summary, _, description = method.doc.partition("\n")
    operation: dict[str, Any] = {
        "operationId": method.target,
        "tags": [method.service],
        "summary": summary.rstrip(".") or method.name,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in ("Timeout", "IdempotencyKey")],
        "requestBody": {
            "required": any(parameter.required for parameter in method.parameters),
            "content": {"application/json": {"schema": schemas.arguments(method)}},
        },
        "responses": {"200": _result(method, schemas)}
        | {name: {"$ref": f"#/components/responses/{name}"} for name in responses},
    }
    if description.strip():
        operation["description"] = description.strip()
    return operation


def _result(method: MethodSpec, schemas: _Schemas) -> dict[str, Any]:
    schema = schemas.of(method.returns)
    if not method.streaming:
        return {"description": "The result.", "content": {"application/json": {"schema": schema}}}
    # OpenAPI 3.1 cannot say "many of these"; the schema of one item goes under an extension as well.
    described = "The items, each when it is there. `$error` in place of an item ends a stream that failed."
    return {
        "description": described,
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}, "x-item-schema": schema},
            "text/event-stream": {"schema": {"type": "string"}, "x-item-schema": schema},
        },
    }


def _error_responses(errors: DeclaredErrors, *, secured: bool) -> dict[str, Any]:
    texts = dict(_STATUSES)
    if secured:
        texts[401] = "The token is missing or wrong."
    declared: dict[int, list[str]] = {}
    for name, cls, status in errors.declared():
        doc = (cls.__doc__ or "").strip().partition("\n")[0]
        declared.setdefault(status, []).append(f"`{name}`: {doc}" if doc else f"`{name}`")
    for status, lines in declared.items():
        texts[status] = "\n\n".join([texts.get(status, _phrase(status)), *lines])
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    responses: dict[str, Any] = {
        str(status): {"description": text, "content": content} for status, text in sorted(texts.items())
    }
    responses["default"] = {"description": "Any other error.", "content": content}
    return responses


def _phrase(status: int) -> str:
    try:
        return f"{HTTPStatus(status).phrase}."
    except ValueError:
        return "A declared error."


def _parameters(config: GatewayConfig) -> dict[str, Any]:
    return {
        "Timeout": {
            "name": "Coterie-Timeout",
            "in": "header",
            "description": f"Seconds that the call may take; {config.timeout_s:g} by default, "
            f"{config.stream_timeout_s:g} for a stream.",
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": config.max_timeout_s},
        },
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A repeated call with the same key has one effect, where the method promises it.",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"},
        },
    }


class _Schemas:
    """The JSON schemas of all types, with what has a name under `components`."""

    def __init__(self, methods: Iterable[MethodSpec]) -> None:
        types: dict[int, Any] = {id(Problem): Problem, id(ArgumentFault): ArgumentFault}
        for method in methods:
            for tp in (*(parameter.type for parameter in method.parameters), method.returns):
                types.setdefault(id(tp), tp)
        models: dict[str, Any] = {}

        def hook(cls: Any) -> Schema:
            models[f"{cls.__module__}.{cls.__qualname__}"] = cls
            return {"$ref": f"#/pydantic/{cls.__module__}.{cls.__qualname__}"}

        found, self.components = msgspec.json.schema_components(
            types.values(), schema_hook=hook, ref_template=_REF
        )
        references = _lift_models(models, self.components)
        self.components.update(_renamed(self.components, references))
        self._types = types  # Keeps the types alive, so that no id is used again.
        self._found: dict[int, Schema] = {
            key: _renamed(schema, references) for key, schema in zip(types, found, strict=True)
        }

    def of(self, tp: Any) -> Schema:
        return self._found[id(tp)]

    def arguments(self, method: MethodSpec) -> Schema:
        """Return the schema of the object of the parameters of a method."""
        schema: Schema = {
            "type": "object",
            "properties": {parameter.name: self._parameter(parameter) for parameter in method.parameters},
            "additionalProperties": False,
        }
        required = [parameter.name for parameter in method.parameters if parameter.required]
        if required:
            schema["required"] = required
        return schema

    def _parameter(self, parameter: ParameterSpec) -> Schema:
        schema = self.of(parameter.type)
        if parameter.required:
            return schema
        try:
            return {**schema, "default": _as_json(parameter.default)}
        except (TypeError, ValueError):
            return schema  # A sentinel of the program's own has no form in JSON.


def _lift_models(models: Mapping[str, Any], components: dict[str, Schema]) -> dict[str, str]:
    """Add pydantic models and what they refer to to `components`; return where each one is found.

    A model whose name is taken by another type gets a name with the prefix `pydantic.`.
    """
    if not models:
        return {}
    modes: list[Any] = [(cls, "validation") for cls in models.values()]
    from pydantic.json_schema import models_json_schema  # it is there, since its models are

    mapping, definitions = models_json_schema(modes, ref_template="#/$defs/{model}")
    names = {}
    for name in definitions.get("$defs", {}):
        valid = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        names[f"#/$defs/{name}"] = f"pydantic.{valid}" if valid in components else valid
    references = {old: _REF.format(name=new) for old, new in names.items()}
    for name, schema in definitions.get("$defs", {}).items():
        components[names[f"#/$defs/{name}"]] = _renamed(schema, references)
    for key, cls in models.items():
        references[f"#/pydantic/{key}"] = references[mapping[cls, "validation"]["$ref"]]
    return references


def _renamed(schema: Any, references: Mapping[str, str]) -> Any:
    """Return a copy of `schema` in which each `$ref` that `references` names is replaced."""
    if isinstance(schema, dict):
        return {
            key: references.get(value, value)
            if key == "$ref" and isinstance(value, str)
            else _renamed(value, references)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_renamed(item, references) for item in schema]
    return schema


def _probe(summary: str, content_type: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {"type": "object"} if content_type == "application/json" else {"type": "string"}
    content = {content_type: {"schema": schema}}
    return {
        "get": {
            "summary": summary,
            "tags": ["node"],
            "responses": {"200": {"description": summary, "content": content}} | (more or {}),
        }
    }


_PROBES: dict[str, Any] = {
    "/healthz": _probe("The process is alive", "application/json"),
    "/readyz": _probe(
        "The node takes traffic",
        "application/json",
        {
            "503": {
                "description": "Not now; `reasons` says why.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    ),
    "/metrics": _probe("Metrics for Prometheus", "text/plain"),
}
