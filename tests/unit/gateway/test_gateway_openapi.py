"""Schemas of types that are hard to name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import pydantic
from openapi_spec_validator import OpenAPIV31SpecValidator

from coterie.gateway import GatewayConfig
from coterie.gateway.openapi import openapi
from coterie.services.registry import ErrorRegistry
from coterie.services.spec import ServiceSpec, describe

T = TypeVar("T")


@dataclasses.dataclass
class Point:
    x: int


@dataclasses.dataclass
class Tree:
    children: list[Tree]
    note: Note | None = None


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


class Note(pydantic.BaseModel):
    text: str
    links: list[Note] = []
    place: int | None = None


class Other:
    class Point(pydantic.BaseModel):
        """A model with the name of another type."""

        y: int


class Shapes:
    async def grow(self, tree: Tree, note: Note = Note(text="new")) -> Box[int]: ...  # noqa: B008 - immutable use
    async def place(self, point: Point, other: Other.Point, box: Box[str] | None = None) -> list[Note]: ...
    async def weigh(self, by: Mapping[str, float], tags: set[str] | None = None) -> float: ...


class Sample:
    name = "node"
    app_name = "shapes"
    services: Mapping[str, ServiceSpec] = {"Shapes": describe(Shapes)}
    errors = ErrorRegistry()


def _document(root: str = "") -> dict[str, Any]:
    document = openapi(Sample(), GatewayConfig(), root)  # type: ignore[arg-type] - it reads no more
    OpenAPIV31SpecValidator(document).validate()
    return document


def test_models_are_lifted_and_keep_apart_from_types_of_the_same_name() -> None:
    schemas = _document()["components"]["schemas"]
    properties = {name: set(schema.get("properties", ())) for name, schema in schemas.items()}
    assert properties["Tree"] == {"children", "note"}
    assert properties["Note"] == {"text", "links", "place"}
    assert sum(found == {"x"} for name, found in properties.items() if name.endswith("Point")) == 1
    assert sum(found == {"y"} for name, found in properties.items() if name.endswith("Point")) == 1
    note = schemas["Note"]["properties"]["links"]["items"]
    assert note == {"$ref": "#/components/schemas/Note"}
    assert schemas["Tree"]["properties"]["note"]["anyOf"][0] == {"$ref": "#/components/schemas/Note"}


def test_defaults_are_given_as_json() -> None:
    operation = _document()["paths"]["/Shapes/grow"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["note"]["default"] == {"text": "new", "links": [], "place": None}


def test_every_reference_leads_somewhere() -> None:
    document = _document("/api")
    assert document["servers"] == [{"url": "/api"}]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    found = references(document)
    assert found
    for reference in found:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
